/** Abilities of this browser that a computer in a tab needs. */

/** Without WebAssembly no computer runs. Some browsers switch it off for security. */
export const hasWebAssembly = typeof WebAssembly === 'object';

/** The private file system of the page (OPFS), for overlays. Only a secure page has it. */
export const hasOverlays =
  typeof (navigator.storage as StorageManager | undefined)?.getDirectory === 'function' && 'locks' in navigator;
