/** The style of `.unseen`: text that screen readers read and nobody sees. Each shadow tree needs a copy. */
export const UNSEEN_STYLE = `
.unseen {
  position: absolute;
  width: 1px;
  height: 1px;
  margin: -1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
`;
