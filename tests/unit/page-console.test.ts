/** The output of a console that the page keeps for a terminal that is opened later. */
import { expect, it } from 'vitest';
import { ConsoleOutput } from '../../src/web/page/computers/console.js';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

it('has no old queries, which a terminal would answer again into the guest', () => {
  const output = new ConsoleOutput();
  // BusyBox's shell asks for the cursor's position before each prompt; here in two chunks.
  for (const chunk of ['login\r\n~ # \x1b[', '6n\x1b[1mls\x1b[0m']) output.add(bytesOf(chunk));
  const seen: string[] = [];
  const stop = output.watch((bytes) => seen.push(new TextDecoder().decode(bytes)));
  output.add(bytesOf('new \x1b[6n'));
  stop();
  output.add(bytesOf('unseen'));
  expect(seen).toEqual(['login\r\n~ # \x1b[1mls\x1b[0m', 'new \x1b[6n']);
});
