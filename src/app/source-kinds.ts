/**
 * The kinds of sources: how each is written, its help, and how it is opened. A new kind is one more
 * entry of {@link sourceKinds}, which opens a BlockDevice: of storage or of a protocol's initiator.
 * A protocol's target is added elsewhere (ARCHITECTURE.md, "Where to add things").
 *
 * Not here: files and block devices of this computer (sources.ts).
 */
import { usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';
import type { Logger } from '../base/log.js';
import type { Steps } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import { MergeFilter } from '../block/filters/merge.js';
import { ReadAheadFilter } from '../block/filters/readahead.js';
import type { Life } from '../block/life.js';
import { nbdFileParameters } from '../protocol/nbd/uri.js';
import { checkForeignUri, remoteFileParameters } from '../protocol/ssh/uri.js';
import type { HttpDisk } from '../storage/http/device.js';
import { ReadyMemoryDevice } from '../storage/memory.js';
import { rbdFileParameters } from '../storage/rbd/location.js';

/** Options for opening a source of any kind. */
export interface KindOptions {
  readonly readOnly?: boolean;
  /** Time to try to restore a lost connection before requests fail, in seconds. */
  readonly reconnectSeconds?: number;
  /**
   * Connections to an NBD server that allows several, if the source's text says nothing. Default 1.
   */
  readonly connections?: number | undefined;
  /** The user asserts that a disk found after a reconnect is the same if nothing else proves it. */
  readonly assumeSame?: boolean | undefined;
  /** Ends the opening. Later it has no effect. */
  readonly signal?: AbortSignal | undefined;
  readonly log: Logger;
  /** For `--trace`: receives the id by which the other computer knows each command. */
  readonly steps?: Steps;
  /** Fences writers of earlier processes; absent if nothing is written. */
  readonly life?: Life;
  /** The caller writes nothing, although it opens as a writer does: take no lock from others. */
  readonly looksOnly?: boolean;
  /** The caller admits clients by BlockDevice.writerLock: an export of a server. */
  readonly admits?: boolean;
}

type Open = (text: string, options: KindOptions) => Promise<BlockDevice>;
type OpenObject = (text: string, options: KindOptions) => Promise<HttpDisk>;

/** A kind of source. */
export interface SourceKind {
  /** The beginning of its text. */
  readonly prefix: string;
  /** How it is written, for help. */
  readonly form: string;
  readonly about: string;
  /** Writes of an earlier process can still arrive there, so a new writer fences them. */
  readonly fenced: boolean;
  /** Parameters of its URI that name files of this computer. */
  readonly fileParameters?: readonly string[];
  /**
   * Refuses a text that could make this computer run commands. For texts that the user did not
   * type.
   * @throws FarbusError
   */
  readonly checkForeign?: (text: string) => void;
  readonly open: Open;
}

/** Loads the module that opens a source when it is needed, so that a command starts quickly. */
const loaded =
  <Device extends BlockDevice>(load: () => Promise<(text: string, options: KindOptions) => Promise<Device>>) =>
  async (text: string, options: KindOptions): Promise<Device> =>
    (await load())(text, options);

const openNbd = loaded(async () => (await import('../protocol/nbd/initiator/open.node.js')).openNbd);
const openAoe = loaded(async () => (await import('../protocol/aoe/initiator/open.node.js')).openAoe);
const openSsh = loaded(async () => (await import('../protocol/ssh/open.node.js')).openSsh);
const openSshSftp = loaded(async () => (await import('../protocol/sftp/open.node.js')).openSshSftp);
const openSshDd = loaded(async () => (await import('../protocol/dd/open.node.js')).openSshDd);
const openRsh = loaded(async () => (await import('../protocol/rsh/open.node.js')).openRsh);
const openHttp = loaded(async () => (await import('../storage/http/open.node.js')).openHttp);
const openS3 = loaded(async () => (await import('../storage/http/s3/open.node.js')).openS3);
const openRbd = loaded(async () => (await import('../storage/rbd/device.node.js')).openRbd);

const openMemory: Open = async (text, options) => {
  const size = parseBytes(text.slice('memory:'.length));
  if (!size || size % 512 !== 0 || size > 2 ** 32) throw usageError(`${text}: expected a size, for example memory:64M`);
  return new ReadyMemoryDevice(size, { readOnly: options.readOnly === true });
};

/**
 * Adds merging of adjacent requests and read-ahead, for protocols with a long wait for each request
 * ([SYS] fig. 13).
 */
const withReadAhead =
  (open: Open): Open =>
  async (text, options) =>
    new ReadAheadFilter(new MergeFilter(await open(text, options)));

/** Kinds whose writes reach another computer. */
const far = (prefix: string, form: string, about: string, open: Open): SourceKind => {
  return { prefix, form, about, fenced: true, open };
};

const nbd = (prefix: string, form: string, about: string): SourceKind => {
  return { ...far(prefix, form, about, openNbd), fileParameters: nbdFileParameters };
};

/** Kinds for servers without Farbus. */
const remote = (prefix: string, form: string, about: string, open: Open): SourceKind => {
  const files = { fileParameters: remoteFileParameters, checkForeign: checkForeignUri };
  return { ...far(prefix, form, about, withReadAhead(open)), ...files };
};

/** Kinds that are never written. */
const object = (prefix: string, form: string, about: string, openDisk: OpenObject): SourceKind => {
  const open: Open = async (text, options) => {
    const disk = await openDisk(text, options);
    return new ReadAheadFilter(new MergeFilter(disk), { isNear: () => disk.isNear });
  };
  return { prefix, form, about, fenced: false, open };
};

export const sourceKinds: readonly SourceKind[] = [
  nbd('nbd://', 'nbd://HOST[:PORT][,HOST...]/EXPORT', 'an export of an NBD server, or of several gateways in turn'),
  nbd('nbd+unix://', 'nbd+unix:///EXPORT?socket=PATH', 'an export of an NBD server, over a unix socket'),
  nbd(
    'nbds://',
    'nbds://HOST[:PORT]/EXPORT?tls-certificates=FOLDER',
    'an export of an NBD server, over TLS; or with tls-psk-file=FILE',
  ),
  nbd('nbds+unix://', 'nbds+unix:///EXPORT?socket=PATH&tls-...', 'NBD with TLS over a unix socket'),
  nbd(
    'nbd+ws://',
    'nbd+ws://HOST:PORT/EXPORT?token-file=FILE',
    'an export of farbus serve --web, over a WebSocket; or with token=TOKEN',
  ),
  nbd(
    'nbd+wss://',
    'nbd+wss://HOST:PORT/EXPORT?tls-...',
    'the same over TLS; tls-fingerprint=SHA256 recognises a certificate that no CA has signed',
  ),
  remote(
    'ssh://',
    'ssh://[USER@]HOST[:PORT]/PATH[?OPTIONS]',
    'a file or block device of a computer where only an ssh server runs. OPTIONS, joined by "&": sudo or doas; ' +
      'size=SIZE and sessions=N; identity=FILE, a private key; config=FILE, a configuration of ssh; option=KEY=VALUE, ' +
      'an option of ssh_config(5), any number of times',
    openSsh,
  ),
  remote('ssh+sftp://', 'ssh+sftp://[USER@]HOST/PATH', 'over ssh, always by SFTP', openSshSftp),
  remote('ssh+dd://', 'ssh+dd://[USER@]HOST/PATH', 'over ssh, always by dd', openSshDd),
  remote(
    'rsh://',
    'rsh://[USER@]HOST[:PORT]/PATH',
    'a file or block device over rsh, which has no encryption and no password',
    openRsh,
  ),
  far('aoe:', 'aoe:SHELF.SLOT@SEGMENT', 'an AoE target on an Ethernet segment, for example aoe:1.0@eth0', openAoe),
  object('https://', 'https://HOST/PATH', 'an object on a web server that serves ranges, read-only', openHttp),
  object('http://', 'http://HOST/PATH', 'the same without encryption', openHttp),
  object('s3://', 's3://BUCKET/KEY', "an object of an S3 service, with the settings of AWS's own tools", openS3),
  {
    prefix: 'rbd:',
    form: 'rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]',
    about:
      'an image of a Ceph cluster; with ?conf=FILE&id=USER&keyring=FILE, and standby=1 for one of several gateways',
    fenced: false,
    fileParameters: rbdFileParameters,
    open: openRbd,
  },
  { prefix: 'memory:', form: 'memory:SIZE', about: 'memory, which is empty at first', fenced: false, open: openMemory },
];
