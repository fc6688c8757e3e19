/** Trace steps of the virtual I/O server 400 for one message ([SYS] fig. 10). */
import type { Steps } from '../../../base/steps.js';
import { sectorSize } from '../../../spec/ata.js';
import type { Plan } from './disk.js';

/** The steps when the command goes to the device. */
export function traceBegin(steps: Steps, tag: number, plan: Plan): void {
  const { kind } = plan;
  steps.step(tag, '288', kind === 'read' || kind === 'write' ? `${kind} ${rangeOf(plan)}` : kind);
  if (kind === 'read') {
    steps.step(tag, '282', `the read goes to the device (${rangeOf(plan)})`);
  } else if (kind === 'write') {
    steps.step(tag, '285', 'the data is received');
    steps.step(tag, '286', `the write goes to the device (${rangeOf(plan)})`);
  }
}

/** The steps when the device has finished the command. */
export function traceEnd(steps: Steps, tag: number, { kind }: Plan, good: boolean): void {
  const how = good ? '' : ': with an error';
  if (kind === 'read') {
    steps.step(tag, '283', `the device has read${how}`);
    steps.step(tag, '284', 'the data is sent to the client');
  } else if (kind === 'write') {
    steps.step(tag, '287', `the device has written${how}`);
  }
}

function rangeOf({ offset, length }: Plan): string {
  return `sector ${offset / sectorSize}, ${length / sectorSize} sectors`;
}
