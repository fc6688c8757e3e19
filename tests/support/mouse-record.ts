/** A disk whose boot record prints what a PS/2 mouse sends. */

/**
 * cli; stack and data segment at 0; command A8h to port 64h switches the mouse's port on; then each
 * byte of the list goes to the mouse by D4h, and its answer is awaited: sample rates of 200, 100
 * and 80 switch the wheel on, F4h the reports. Then the text goes to the serial port (3F8h), and
 * every byte that the keyboard controller offers after it.
 */
const code =
  'fa31c08ed88ed0bc0070fcb0a8e664be447cac84c0741488c4b0d4e66488e0e660e464a80174fae460ebe7be4c7cbaf803ac84c07403ee' +
  'ebf8e464a80174fae460eeebf5f3c8f364f350f400';

/** 1 MiB. */
export function mouseRecord(text: string): Uint8Array {
  const disk = Buffer.alloc(1 << 20);
  disk.write(code, 0, 'hex');
  disk.write(text, code.length / 2, 'latin1');
  disk.writeUInt16BE(0x55aa, 510);
  return disk;
}
