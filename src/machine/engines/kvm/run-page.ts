/**
 * Access to struct kvm_run, in which the kernel describes an exit and takes its result
 * (include/uapi/linux/kvm.h).
 */
import { Run } from './abi.js';

/** The ports of a board. `read` and `write` tell by undefined and false that they did nothing. */
export interface Ports {
  read(port: number, size: number): number | undefined;
  write(port: number, size: number, value: number): boolean;
}

/** Number of accesses that an exit for an I/O port stands for: more than 1 for `rep outs`. */
export function portAccesses(run: DataView): number {
  return run.getUint32(Run.ioCount, true);
}

/**
 * Answers an exit for an I/O port, all accesses one after the other.
 * @returns false if the ports did not answer the last of them
 */
export function answerPort(run: DataView, ports: Ports): boolean {
  const size = run.getUint8(Run.ioSize);
  const port = run.getUint16(Run.ioPort, true);
  const out = run.getUint8(Run.ioDirection) === 1;
  const start = Number(run.getBigUint64(Run.ioDataOffset, true));
  let answered = true;
  for (let i = 0; i < portAccesses(run); i++) {
    const at = start + i * size;
    if (out) {
      answered = ports.write(port, size, load(run, at, size));
    } else {
      const value = ports.read(port, size);
      answered = value !== undefined;
      if (value !== undefined) store(run, at, size, value);
    }
  }
  return answered;
}

export function load(view: DataView, at: number, size: number): number {
  return size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : view.getUint8(at);
}

export function store(view: DataView, at: number, size: number, value: number): void {
  if (size === 4) view.setUint32(at, value, true);
  else if (size === 2) view.setUint16(at, value, true);
  else view.setUint8(at, value);
}
