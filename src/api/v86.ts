/**
 * `farbus/v86`: the engine v86, which emulates a 32-bit PC in WebAssembly, for computers of
 * `farbus/computer`. Runs in Node and in browsers. The file v86.wasm is in the package v86.
 *
 * @example A client computer in a browser
 * ```ts
 * import { ClientComputer } from 'farbus/computer';
 * import { createV86 } from 'farbus/v86';
 * import { MemoryDevice } from 'farbus';
 *
 * const computer = await ClientComputer.create({
 *   drives: [new MemoryDevice(64 << 20)],
 *   createEngine: (trap, onEnd, ide) =>
 *     createV86({ memorySize: 128 << 20, wasmPath: '/v86.wasm', trap, onEnd, ide }),
 * });
 * ```
 * @module farbus/v86
 */
export { createV86 } from '../machine/engines/v86/create.js';
export type { V86Options } from '../machine/engines/v86/engine.js';
