/** Which files hold weights, by their names. */

/** Whether a file holds weights as a checkpoint has them. */
export const isWeights = (file: string) => /\.(safetensors|bin)$/.test(file);

/** The parts of a packed file's name, such as `model.q8.v1.packed`; `null` for other files. */
export function packedParts(file: string): { dtype: string; layout: string; version: number } | null {
  const [, layout, dtype, version] = /^([^./\\]+\.([^./\\]+)(?:\.untied)?)\.v(\d+)\.packed$/.exec(file) ?? [];
  return layout && dtype && version ? { dtype, layout, version: Number(version) } : null;
}

/** Whether a file holds weights in either form. These are the large files. */
export const holdsWeights = (file: string) => isWeights(file) || packedParts(file) !== null;
