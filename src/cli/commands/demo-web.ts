/**
 * `farbus demo --web`: the console page of the demo. It shows the client computer with its
 * terminal, and the commands to its two far disks, which are exports of a server on a unix socket
 * of the demo.
 */
import { join } from 'node:path';
import { bootId } from '../../base/boot-id.node.js';
import type { BlockDevice } from '../../block/device.js';
import { KeptOpenFilter } from '../../block/filters/kept-open.js';
import { collectBytes, ConsoleFeed } from '../../base/console-feed.js';
import { FarbusError } from '../../base/errors.js';
import type { ClientComputer } from '../../computer/client.js';
import { CommandWatch, WatchFilter } from '../../export/watch.js';
import { computerHandler } from '../../app/computer/control.js';
import { ServeService } from '../../app/serve/service.js';
import { defaultReconnect } from '../../app/serve/settings.js';
import { parseWeb } from '../../app/web/address.js';
import { startWeb, type Web } from '../../app/web/serve.js';
import { enroll, type Enrolled } from '../ui/enroll.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { openBrowser } from '../ui/open-browser.js';

/** The client computer, as the table of commands names it. */
const client = 'OS 1';
/** Pause of the guest between two rounds of its work, in seconds. */
const pauseSeconds = 2;

export class DemoWeb {
  readonly #at: string;
  readonly #io: CliIo;
  readonly #socket: string;
  readonly #watch = new CommandWatch();
  readonly #service: ServeService;
  #web: Web | undefined;
  #enrolled: Enrolled | undefined;
  #closeBrowser: (() => void) | undefined;

  /**
   * @param folder of the demo, for a socket
   * @throws FarbusError if `at` is no address
   */
  constructor(at: string, folder: string, io: CliIo) {
    parseWeb(at);
    this.#at = at;
    this.#io = io;
    this.#socket = join(folder, 'web.sock');
    this.#service = new ServeService({ log: stderrLogger(io, true), bootId: bootId(), sockets: [] });
  }

  /** A drive of the client whose commands the page shows. */
  watched(name: string, drive: BlockDevice): BlockDevice {
    // The guest writes it, so others only look.
    this.#service.add({ name, device: new KeptOpenFilter(drive), readOnly: true });
    return new WatchFilter(drive, this.#watch, { export: name, client });
  }

  /** Serves the page, and opens it where there is a display. Returns its address. */
  async start(computer: ClientComputer): Promise<string> {
    const io = this.#io;
    const log = stderrLogger(io, true);
    const tls = { 'tls-verify-peer': false };
    const listen = [`nbd+unix:///?socket=${encodeURIComponent(this.#socket)}`];
    const settings = { listen, exports: [], limits: {}, metrics: undefined, web: undefined, lentAccess: {}, tls };
    await this.#service.start({ ...settings, reconnectSeconds: defaultReconnect });
    const feed = new ConsoleFeed();
    computer.onSerial(collectBytes((bytes) => feed.add(bytes)));
    const uses = [...this.#service.server.exports.list()].map(({ name }) => name);
    this.#enrolled = await enroll({
      io,
      kind: 'computer',
      name: undefined,
      log,
      uses,
      without: 'the page has no computer',
    });
    const media = { drives: [], eject: noMedia, insert: noMedia, attach: noMedia, detach: noMedia };
    const { name } = this.#enrolled;
    this.#enrolled.serve(computerHandler({ computer, media, usesScreen: false }, feed), () => {
      return { state: computer.paused ? 'paused' : 'running', uses, reach: [`farbus console ${name}`] };
    });
    const of = { service: this.#service, watch: this.#watch, name: 'demo' };
    this.#web = await startWeb({ at: this.#at, origins: [], tls, env: io.env, log, ...of });
    const { address } = this.#web;
    this.#closeBrowser = openBrowser(io, address);
    return address;
  }

  /** Lets the guest use a disk again and again. Rejects with the signal's reason. */
  async goOn(guest: (command: string) => Promise<string>, device: string, signal: AbortSignal): Promise<never> {
    await guest(`mkdir -p /mnt/web && mount ${device} /mnt/web`);
    for (;;) {
      signal.throwIfAborted();
      await guest(
        `cd /mnt/web && dd if=/dev/urandom of=web.bin bs=4k count=8 2>/dev/null && sync && sleep ${pauseSeconds}`,
      );
    }
  }

  async close(): Promise<void> {
    this.#closeBrowser?.();
    this.#web?.close();
    await this.#enrolled?.close();
    await this.#service.stop();
  }
}

function noMedia(): Promise<never> {
  return Promise.reject(new FarbusError('the drives of the demo have no media that can be exchanged'));
}
