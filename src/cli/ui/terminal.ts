/**
 * Connects the user's terminal to a guest's console: in raw mode, all keys go to the guest, and
 * Ctrl-] leaves.
 */
import type { CliIo } from './io.js';

/** Ctrl-], as in telnet and virsh console. */
const leaveKey = 0x1d;

/**
 * Connects stdin to a guest. On a terminal Ctrl-] ends the connection. The end of a pipe does not,
 * because the guest continues.
 * @param leavesInPipe True if Ctrl-] ends the connection in a pipe, too.
 * @returns `stop` disconnects and restores the terminal; `left` resolves when the user leaves, and
 * `inputEnded` when stdin has ended.
 */
export function attachTerminal(
  io: CliIo,
  send: (bytes: Uint8Array) => unknown,
  { leavesInPipe = false } = {},
): { stop: () => void; left: Promise<void>; inputEnded: Promise<void> } {
  const { stdin } = io;
  const raw = stdin.isTTY === true;
  let leave: () => void = () => undefined;
  let leaves = false;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const inputEnded = new Promise<void>((resolve) => stdin.once('end', resolve));
  const onData = (chunk: Buffer) => {
    if (leaves) return;
    const at = raw || leavesInPipe ? chunk.indexOf(leaveKey) : -1;
    const taken = send(at < 0 ? chunk : chunk.subarray(0, at));
    if (at >= 0) {
      leaves = true;
      leave();
    }
    if (!raw && taken instanceof Promise) void waitFor(taken);
  };
  let stopped = false;
  /** A pipe delivers faster than a guest reads, so wait for the guest. */
  const waitFor = async (taken: Promise<unknown>): Promise<void> => {
    stdin.pause();
    await taken;
    if (!stopped) stdin.resume();
  };
  // A closed terminal can be neither read nor restored (EIO).
  stdin.on('error', leave);
  if (raw) stdin.setRawMode(true);
  stdin.on('data', onData);
  stdin.resume();
  return {
    left,
    inputEnded,
    stop: () => {
      stopped = true;
      stdin.off('data', onData);
      stdin.pause();
      if (raw) stdin.setRawMode(false);
    },
  };
}
