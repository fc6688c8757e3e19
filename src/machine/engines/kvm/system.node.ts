/** /dev/kvm, and calls that several files of the engine make. */
import { openSync } from 'node:fs';
import { errnoOf } from '../../../base/errors.js';
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import { Request } from './abi.js';

/**
 * Opens /dev/kvm.
 * @throws Error with an errno `code`
 */
export function openKvm(): number {
  return openSync('/dev/kvm', 'r+');
}

/** Sets the level of an input of a machine's interrupt controllers (KVM_IRQ_LINE, [KVM] §4.25). */
export function setInterruptInput(vm: number, input: number, asserted: boolean): void {
  const level = new Uint8Array(Uint32Array.of(input, asserted ? 1 : 0).buffer);
  machineCalls().exchange(vm, Request.irqLine, level);
}

/** Repeats a call while a signal interrupts it. */
export function untilUninterrupted(call: () => number): number {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (errnoOf(error) !== 'EINTR') throw error;
    }
  }
}
