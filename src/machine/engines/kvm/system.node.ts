/** /dev/kvm, and the one call that several threads make on a machine. */
import { openSync } from 'node:fs';
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
