/** A disk whose boot record prints a text on the serial port, then echoes received bytes. */

/**
 * xor ax,ax; mov ds,ax; cld; mov si,text; mov dx,3F8h; then lodsb and out until a zero byte; then
 * wait for a received byte (3FDh, bit 0) and send it back.
 */
const code = '31c08ed8fcbe227cbaf803ac84c07403eeebf8bafd03eca80174fbbaf803eceeebf1';

/** 1 MiB. */
export function bootRecord(text: string): Uint8Array {
  const disk = Buffer.alloc(1 << 20);
  disk.write(code, 0, 'hex');
  disk.write(text, code.length / 2, 'latin1');
  disk.writeUInt16BE(0x55aa, 510);
  return disk;
}
