/**
 * Decodes text and identifiers from disks for people: without control characters and trailing
 * spaces.
 */
import { hexOf } from '../base/hex.js';
import { visible } from '../base/printable.js';

export type TextEncoding = 'utf-8' | 'utf-16le' | 'utf-16be' | 'latin1';

/** Text up to its first NUL, without trailing spaces. Invalid and control characters become "?". */
export function diskText(bytes: Uint8Array, encoding: TextEncoding = 'utf-8'): string {
  const text = new TextDecoder(encoding).decode(bytes);
  const end = text.indexOf('\0');
  return visible(end < 0 ? text : text.slice(0, end))
    .replaceAll('\ufffd', '?')
    .trimEnd();
}

/** 16 bytes, in their order, as a UUID (RFC 4122); undefined if all are zero. */
export function uuidText(bytes: Uint8Array): string | undefined {
  if (bytes.every((byte) => byte === 0)) return undefined;
  return hexOf(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/**
 * 16 bytes as a GUID in upper case. Its first three fields are little-endian ([UEFI] appendix A).
 */
export function guidText(bytes: Uint8Array): string {
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  const digits = hexOf(Uint8Array.from(order, (at) => bytes[at]!)).toUpperCase();
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** A 32-bit serial number in the form of DOS: "1A2B-3C4D"; undefined for 0. */
export function serialText(serial: number): string | undefined {
  if (serial === 0) return undefined;
  const digits = serial.toString(16).toUpperCase().padStart(8, '0');
  return `${digits.slice(0, 4)}-${digits.slice(4)}`;
}
