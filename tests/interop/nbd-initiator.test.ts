/** The NBD initiator against real servers: the conformance suite, and what is special to each server. */
import { truncateSync, writeFileSync } from 'node:fs';
import { describe } from 'vitest';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { conformance, type Opened } from '../conformance/suite.js';
import { freeSocket, missing, nbdkit, qemuNbd, type NbdPeer } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';

const size = 8 << 20;

function image(): string {
  const path = tempPath('disk.img');
  writeFileSync(path, '');
  truncateSync(path, size);
  return path;
}

/** Opens what a server that is started for it offers. */
async function opened(peer: Promise<NbdPeer>): Promise<Opened> {
  const server = await peer;
  return { device: await openNbd(server.uri), cleanup: () => server.kill() };
}

describe.skipIf(missing('nbdkit'))('nbdkit', () => {
  conformance('nbdkit memory, unix socket', () => opened(nbdkit(freeSocket(), ['memory', `${size}`])), {
    openReadOnly: () => opened(nbdkit(freeSocket(), ['-r', 'memory', `${size}`])),
  });
});

describe.skipIf(missing('qemu-nbd'))('qemu-nbd', () => {
  conformance('qemu-nbd raw file, unix socket', () => opened(qemuNbd(freeSocket(), image())));
});
