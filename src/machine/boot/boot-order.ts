/** The order of boot devices as SeaBIOS reads it (docs/Runtime_config.md: Open Firmware paths). */
import type { BootPlace } from '../engine.js';

/** The content of the file "bootorder". */
export function bootOrder(order: readonly BootPlace[]): Uint8Array {
  const paths = order.map(({ slot, port, unit = 0 }) => {
    const adapter = `/pci@i0cf8/pci@${slot.toString(16)}`;
    return port === undefined ? adapter : `${adapter}/drive@${port.toString(16)}/disk@${unit}`;
  });
  return new TextEncoder().encode(`${paths.join('\n')}\n\0`);
}
