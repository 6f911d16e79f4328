/** Set by build.mjs, from package.json. */
declare const PACKAGE_VERSION: string;

/** Version of this package. */
export const VERSION: string = PACKAGE_VERSION;
