/**
 * Makes a folder of certificates in the layout of QEMU, libnbd and nbdkit, or adds pairs to one. It
 * has ca-cert.pem and ca-key.pem, and the first pairs: server-cert.pem, server-key.pem,
 * client-cert.pem, client-key.pem. Each further pair has a folder of its own in it, named by the
 * host or client, with a copy of ca-cert.pem, so that this folder is all that its owner needs.
 *
 * A file that exists is never replaced: a key that is lost may lock clients or servers out.
 */
import { X509Certificate } from 'node:crypto';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { errnoOf, failed, FarbusError } from '../../base/errors.js';
import type { Authority, Pair, Subject } from './issue.node.js';
import { clientName, hostName, serverNames } from './names.node.js';

/** Validity of a new CA in days, if its first pairs are not valid for longer. */
export const authorityDays = 3650;

/** The client of the first pair. */
const firstClient = 'client';

export interface CertificatesWanted {
  /** Host names and IP addresses of one server. */
  readonly hosts: readonly string[];
  /** Names of clients besides the first one. */
  readonly clients: readonly string[];
  /** Validity of the pairs, in days. */
  readonly days: number;
}

/** A pair that was made. */
export interface PairMade extends Subject {
  /** The path of its certificate. */
  readonly path: string;
  readonly until: Date;
}

export interface CertificatesMade {
  /** The path and the end of the CA, if it is new. */
  readonly authority: { readonly path: string; readonly until: Date } | undefined;
  readonly pairs: readonly PairMade[];
}

interface Plan extends Subject {
  readonly folder: string;
}

/** A file to write. */
interface Output {
  readonly path: string;
  readonly text: string;
  readonly mode: number;
}

/**
 * Makes the pairs that are wanted; with a new CA, the first server and client too.
 * @throws FarbusError if one exists or a name is not valid; then nothing is made
 */
export async function makeCertificates(folder: string, wanted: CertificatesWanted): Promise<CertificatesMade> {
  const names = { hosts: wanted.hosts.map(hostName), clients: [...new Set(wanted.clients.map(clientName))] };
  await checkFolder(folder);
  const ca = await existingPair(folder, 'ca');
  const plans = ca ? await furtherPlans(folder, names) : firstPlans(folder, names);
  for (const { folder: into, role } of plans) await checkAbsent(into, role);
  // The library takes a tenth of a second to load.
  const issuing = await import('./issue.node.js');
  const authority: Authority = ca
    ? await issuing.Authority.read(ca)
    : await issuing.Authority.create(Math.max(wanted.days, authorityDays));
  if (authority.until.getTime() < Date.now()) {
    throw new FarbusError(`${join(folder, 'ca-cert.pem')} has expired: make a new CA in another folder`);
  }
  const pairs: PairMade[] = [];
  const outputs: Output[] = ca ? [] : outputsOf(folder, 'ca', authority.pair);
  for (const plan of plans) {
    const pair = await authority.issue(plan, wanted.days);
    // A server and a client of one name share a folder.
    const isNew = plan.folder !== folder && !plans.slice(0, pairs.length).some((one) => one.folder === plan.folder);
    if (isNew) outputs.push(...(await copyOfAuthority(plan.folder, authority)));
    outputs.push(...outputsOf(plan.folder, plan.role, pair));
    pairs.push({ ...plan, path: certificatePath(plan.folder, plan.role), until: pair.until });
  }
  await write([folder, ...plans.map((plan) => plan.folder)], outputs);
  const made = { path: certificatePath(folder, 'ca'), until: authority.until };
  return { authority: ca ? undefined : made, pairs };
}

interface Names {
  readonly hosts: readonly string[];
  readonly clients: readonly string[];
}

const serverIn = (folder: string, hosts: readonly string[]): Plan => {
  const names = serverNames(hosts);
  // A longer name does not fit: programs read the alternative names, which have no such limit.
  const commonName = names.find((name) => name.length <= 64)!;
  return { folder, role: 'server', commonName, hosts: names };
};
const clientIn = (folder: string, name: string): Plan => ({ folder, role: 'client', commonName: name, hosts: [] });
const clientsIn = (folder: string, names: readonly string[]): Plan[] =>
  names.map((name) => clientIn(join(folder, name), name));

function firstPlans(folder: string, { hosts, clients }: Names): Plan[] {
  return [serverIn(folder, hosts), clientIn(folder, firstClient), ...clientsIn(folder, clients)];
}

/** The pairs to add to a folder that has a CA: what is wanted, else its own missing pairs. */
async function furtherPlans(folder: string, { hosts, clients }: Names): Promise<Plan[]> {
  const plans = clientsIn(folder, clients);
  const server = await existingPair(folder, 'server');
  if (hosts.length > 0) {
    if (server && hosts.every((host) => hasName(server, host))) throw exists(folder, 'server', ' and has these names');
    plans.unshift(serverIn(server ? join(folder, hosts[0]!) : folder, hosts));
  }
  if (hosts.length > 0 || clients.length > 0) return plans;
  if (!server) plans.push(serverIn(folder, []));
  if (!(await existingPair(folder, 'client'))) plans.push(clientIn(folder, firstClient));
  if (plans.length > 0) return plans;
  throw new FarbusError(`${folder} is complete: give a HOST for another server, or --client NAME for another client`);
}

function hasName({ certificate }: Pair, host: string): boolean {
  try {
    const read = new X509Certificate(certificate);
    return (isIP(host) === 0 ? read.checkHost(host) : read.checkIP(host)) !== undefined;
  } catch {
    // Not a certificate: it has no names.
    return false;
  }
}

type Role = 'ca' | 'server' | 'client';

const certificatePath = (folder: string, role: Role): string => join(folder, `${role}-cert.pem`);
const keyPath = (folder: string, role: Role): string => join(folder, `${role}-key.pem`);

function outputsOf(folder: string, role: Role, { certificate, key }: Pair): Output[] {
  return [
    { path: keyPath(folder, role), text: key, mode: 0o600 },
    { path: certificatePath(folder, role), text: certificate, mode: 0o644 },
  ];
}

/** The CA's certificate for a folder of its own, unless it is there. */
async function copyOfAuthority(folder: string, { pair }: Authority): Promise<Output[]> {
  const path = certificatePath(folder, 'ca');
  const found = await readIfThere(path);
  if (found === undefined) return [{ path, text: pair.certificate, mode: 0o644 }];
  if (found === pair.certificate) return [];
  throw new FarbusError(`${path} is of another CA: delete it, or give another name`);
}

/** Reads a pair; undefined if neither of its files exists. Rejects if only one does. */
async function existingPair(folder: string, role: Role): Promise<Pair | undefined> {
  const [certificate, key] = [
    await readIfThere(certificatePath(folder, role)),
    await readIfThere(keyPath(folder, role)),
  ];
  if (certificate === undefined && key === undefined) return undefined;
  if (certificate !== undefined && key !== undefined) return { certificate, key };
  const [there, missing] = certificate === undefined ? ['key', 'cert'] : ['cert', 'key'];
  throw new FarbusError(
    `${folder} has ${role}-${there}.pem without ${role}-${missing}.pem: put that back, or delete the other`,
  );
}

/** Refuses a folder in which this role has a file. */
async function checkAbsent(folder: string, role: Role): Promise<void> {
  if (await existingPair(folder, role)) throw exists(folder, role);
}

function exists(folder: string, role: Role, more = ''): FarbusError {
  return new FarbusError(
    `${certificatePath(folder, role)} exists${more}: to replace it, delete it and ${role}-key.pem first`,
  );
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw failed(`cannot read ${path}`, error);
  }
}

/** Refuses a folder in which other users could exchange files. Accepts one that does not exist. */
async function checkFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw failed(`cannot use ${folder}`, error);
  });
  if (!found) return;
  if (!found.isDirectory()) throw new FarbusError(`${folder} is not a folder: give another path`);
  if ((found.mode & 0o022) !== 0) throw new FarbusError(`other users can write to ${folder}: run chmod go-w ${folder}`);
}

/** Makes the folders and files. If one cannot be written, removes those that were. */
async function write(folders: readonly string[], outputs: readonly Output[]): Promise<void> {
  const written: string[] = [];
  try {
    for (const folder of folders) {
      await makeFolder(folder);
      await checkFolder(folder);
    }
    for (const { path, text, mode } of outputs) {
      // Fails on a file or link that has appeared meanwhile.
      await writeFile(path, text, { mode, flag: 'wx' });
      written.push(path);
    }
  } catch (error) {
    for (const path of written) await rm(path, { force: true });
    throw failed('cannot write the certificates', error);
  }
}

/** Makes a folder, and those above it, unless it exists. */
async function makeFolder(path: string): Promise<void> {
  const make = (): Promise<void> =>
    mkdir(path, { mode: 0o700 }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
  try {
    await make();
  } catch (error) {
    const above = dirname(resolve(path));
    if (errnoOf(error) !== 'ENOENT' || above === resolve(path)) throw error;
    // Node's own recursive mkdir never ends below a folder such as /proc.
    await makeFolder(above);
    await make();
  }
}
