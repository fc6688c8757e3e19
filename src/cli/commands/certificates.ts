/** `farbus certificates`: makes certificates for TLS. */
import { failed, usageError } from '../../base/errors.js';
import { authorityDays, makeCertificates, type PairMade } from '../../network/certificates/folder.node.js';
import { defineCommand } from '../command.js';
import { exitStatus } from '../exit-status.js';
import { numberOption } from '../options.js';
import type { Given, Options } from '../table.js';
import { stderrLogger, type CliIo } from '../ui/io.js';

/** Longest validity, in days. */
const maxDays = 36_500;

const options = {
  client: { value: 'NAME', multiple: true, about: 'a further client, in FOLDER/NAME; may be given several times' },
  days: { value: 'N', default: '1095', about: 'validity of servers and clients in days, but not beyond the CA' },
  quiet: { about: 'print no messages but warnings and errors' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'certificates',
  summary: 'make certificates for servers and clients that use TLS',
  usage: ['FOLDER [HOST]... [OPTIONS]'],
  about: `
    Makes a certificate authority (CA) in FOLDER, a certificate and key for a server, and for a client, with the names
    that QEMU, libnbd and nbdkit expect: ca-cert.pem, ca-key.pem, server-cert.pem, server-key.pem, client-cert.pem,
    client-key.pem. The server is reached by each HOST, a host name or an IP address, and by localhost, 127.0.0.1 and
    ::1. Keys are for the elliptic curve P-256, and only you can read them. The CA is valid for ${authorityDays} days, or
    for N if that is more.

    If FOLDER has a CA, it signs what is added: a server for these HOSTs in FOLDER/HOST (the first of them), a client in
    FOLDER/NAME, each with ca-cert.pem. So this folder is all that this computer needs. No file is replaced: to renew a
    certificate, delete it and its key, and run the command again.`,
  options,
  notes: `
    Who has ca-key.pem can make further clients and servers: leave it where it is. A server needs ca-cert.pem,
    server-cert.pem and server-key.pem; a client needs ca-cert.pem, client-cert.pem and client-key.pem. In access rules
    (tls-names) a client has its NAME, the first one "client".`,
  examples: [
    'farbus certificates pki server.example.org 192.0.2.7',
    'farbus serve --tls-certificates pki --tls-verify-peer --listen nbd://0.0.0.0 disk.img',
    'farbus certificates pki --client alice --client bob',
    "farbus copy 'nbds://server.example.org/disk.img?tls-certificates=pki/alice' disk2.img",
  ],
  pages: ['nbd'],
  operands: 'file',
  run,
});

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [folder, ...hosts] = operands;
  if (!folder) throw usageError('certificates where, and for which host? farbus certificates FOLDER HOST...');
  const days = numberOption('days', values.days, 1, maxDays);
  const wanted = { hosts, clients: values.client, days };
  const made = await makeCertificates(folder, wanted).catch((error: unknown) => {
    throw failed('cannot make certificates', error);
  });
  const log = stderrLogger(io, values.quiet);
  if (made.authority) log.log('info', `${made.authority.path}: a new CA, valid until ${dateOf(made.authority.until)}`);
  for (const pair of made.pairs) log.log('info', describe(pair));
  return exitStatus.done;
}

function describe({ path, role, commonName, hosts, until }: PairMade): string {
  const names = role === 'server' ? hosts.join(', ') : commonName;
  return `${path}: ${role} ${names}, valid until ${dateOf(until)}`;
}

function dateOf(date: Date): string {
  return date.toISOString().slice(0, 10);
}
