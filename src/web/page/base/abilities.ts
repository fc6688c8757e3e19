/** Abilities of this browser that parts of the page need. */

/** Without WebAssembly no computer runs. Some browsers switch it off for security. */
export const hasWebAssembly = typeof WebAssembly === 'object';

/** The page's private file system (OPFS), for overlays and disks. Only a secure page has it. */
export const hasPrivateFiles =
  typeof (navigator.storage as StorageManager | undefined)?.getDirectory === 'function' && 'locks' in navigator;

/** The File System Access API, with which a page writes a file that the user picks. */
export const picksWritable = 'showOpenFilePicker' in globalThis;
