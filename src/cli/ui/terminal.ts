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
 * @returns `stop` disconnects and restores the terminal; `left` resolves when the user leaves.
 */
export function attachTerminal(
  io: CliIo,
  send: (bytes: Uint8Array) => unknown,
): { stop: () => void; left: Promise<void> } {
  const { stdin } = io;
  const raw = stdin.isTTY === true;
  let leave: () => void = () => undefined;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const onData = (chunk: Buffer) => {
    const at = raw ? chunk.indexOf(leaveKey) : -1;
    const taken = send(at < 0 ? chunk : chunk.subarray(0, at));
    if (at >= 0) leave();
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
    stop: () => {
      stopped = true;
      stdin.off('data', onData);
      stdin.pause();
      if (raw) stdin.setRawMode(false);
    },
  };
}
