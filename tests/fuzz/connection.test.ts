/**
 * Hostile NBD servers: what one connection of the initiator makes of any handshake and any replies.
 */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { connection } from './subjects/connection.js';

test('a connection of the NBD initiator survives its server', { timeout: patience }, async () => {
  const inputs = inputsWanted(20_000, 3_000_000);
  expect((await fuzz(connection, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
