/**
 * Codes with which both sides of a lending tab's WebSocket close it (RFC 6455 §7.4.2, private use).
 */

/** The tab stops lending: the export ends at once. */
export const lendingStopped = 4020;
/** The server refuses the tab. The reason is a sentence for its user; calling again is useless. */
export const lendingRefused = 4021;

/** The server ends a connection because its token has expired or was revoked (RFC 6455 §7.4.1). */
export const tokenEnded = 1008;

/** Longest reason in a close frame, in bytes (RFC 6455 §5.5). */
const maxReason = 123;

/** Cuts a text to the length of a reason, between two characters. */
export function reasonOf(text: string): string {
  const encoder = new TextEncoder();
  const { read } = encoder.encodeInto(text, new Uint8Array(maxReason));
  return text.slice(0, read);
}
