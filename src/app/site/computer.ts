/**
 * Assembles one computer of a site in this process: network adapter, devices and their virtual I/O
 * servers, drives, operating system.
 */
import { join } from 'node:path';
import { collectBytes } from '../../base/console-feed.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { LogLevel } from '../../base/log.js';
import { Steps, type Step, type StepSink } from '../../base/steps.js';
import { LeaseArbiter } from '../../block/filters/lease.js';
import type { Computer } from '../../computer/computer.js';
import type { ClientDrive } from '../../computer/drives.js';
import { describeEnd, isBadEnd } from '../../computer/guest-end.js';
import { SharedAdapter } from '../../computer/shared-adapter.js';
import type { Architecture } from '../../guest/lock.node.js';
import type { Work } from '../../base/work.js';
import type { Segment } from '../../network/ethernet/segment.js';
import { initiatorClaim, targetClaim } from '../../protocol/aoe/claim.js';
import { connectAoe } from '../../protocol/aoe/initiator/initiator.js';
import { AoeTarget } from '../../protocol/aoe/target/target.js';
import type {
  ComputerEvents,
  ComputerRequest,
  ComputerState,
  RunningComputer,
  StartComputer,
  StartOptions,
} from '../../site/computer.js';
import { traceEnd } from '../../site/logs.node.js';
import type { ComputerPlan, SiteDrive } from '../../site/plan.js';
import {
  chooseGuest,
  createComputer,
  createServerComputer,
  memoryFor,
  saveRunning,
  startGuest,
  type GuestChoice,
} from '../computer/start.js';
import { answerComputer, type Controlled } from '../computer/control.js';
import { Media } from '../computer/media.js';
import { variablesBeside } from '../computer/uefi-variables.js';
import { parseSource } from '../source-text.js';
import { engineOf } from './engine.js';
import { driveText } from './site.js';
import { openClientDrive, openSource } from '../sources.js';
import { TracePrinter } from '../trace.js';

/** Maximum size of one part of a trace, in bytes. A trace has two parts. */
const maxTrace = 64 << 20;
/** Steps of single frames, which are not part of a boot. */
const frameSteps = new Set(['280', '281', '289']);
/** Default memory of a computer of a site, in bytes. */
export const usualMemory: Readonly<Record<Architecture, number>> = { i386: 128 << 20, amd64: 256 << 20 };
/** Time that a client waits for its servers at the start, in seconds: they may be starting too. */
const connectSeconds = 120;

/** Starts a computer in this process. */
export const startHere: StartComputer = (plan, segment, events, options) => {
  const computer = new SiteComputer(plan, segment, events, options);
  void computer.run();
  return computer;
};

/** The system that a computer of a site boots. */
export function systemOf(
  { system, address, name, segment, drives }: ComputerPlan,
  architecture: Architecture,
): Omit<GuestChoice, 'log'> {
  const words = [`farbus.hostname=${name}`, ...(address ? [`farbus.address=${address}`] : [])];
  const append = system.append === undefined ? [] : [system.append];
  if (system.bios) return { firmware: 'bios', readyText: system.ready };
  if (system.uefi) {
    const texts = drives.flatMap((drive) => (drive.kind === 'text' ? [parseSource(drive.text)] : []));
    const uefiVariables = system.uefiVariables ?? variablesBeside(texts);
    return { firmware: 'uefi', uefiVariables, readyText: system.ready };
  }
  return {
    architecture,
    kernel: system.kernel,
    release: system.debian,
    tools: system.with,
    initrd: system.initrd,
    append: system.kernel === undefined ? [...words, ...append].join(' ') : system.append,
    readyText: system.ready,
    ahci: drives.some((drive) => drive.kind !== 'own' && drive.bus === 'ahci'),
    ide: drives.some((drive) => drive.kind === 'text' && drive.bus === 'ide'),
    network: segment !== undefined,
  };
}

class SiteComputer implements RunningComputer {
  readonly #plan: ComputerPlan;
  readonly #segment: Segment | undefined;
  readonly #events: ComputerEvents;
  readonly #options: StartOptions;
  readonly #steps = new Steps();
  readonly #leases = new Map<string, LeaseArbiter>();
  readonly #closing: (() => Promise<unknown>)[] = [];
  readonly #gone = new AbortController();
  #computer: Computer | undefined;
  /** Undefined until it has booted: a request could disturb the boot. */
  #controlled: Controlled | undefined;
  #over = false;
  #ended: Promise<void> | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(plan: ComputerPlan, segment: Segment | undefined, events: ComputerEvents, options: StartOptions) {
    this.#plan = plan;
    this.#segment = segment;
    this.#events = events;
    this.#options = options;
  }

  async run(): Promise<void> {
    this.#running = this.#run();
    try {
      await this.#running;
    } catch (error) {
      await this.#end('failed', messageOf(error));
    }
  }

  input(bytes: Uint8Array): void {
    void this.#computer?.sendSerial(bytes);
  }

  async moveLease(device: string, to: string, { signal, waitsFor }: Work): Promise<void> {
    const lease = this.#leases.get(device);
    if (!lease) {
      const { name: computer, devices } = this.#plan;
      const found = devices.find(({ name }) => `${computer}/${name}` === device);
      if (!found) {
        const names = devices.map(({ name }) => `${computer}/${name}`);
        const given = names.length > 0 ? `give one of ${names.join(', ')}` : `${computer} serves none`;
        throw new FarbusError(`there is no device ${JSON.stringify(device)} in this site: ${given}`);
      }
      const why =
        found.lease === undefined ? 'it is not given to its own operating system' : 'its computer is starting';
      throw new FarbusError(`${device} has no lease: ${why}`);
    }
    await lease.move(to, { signal, waitsFor });
    this.#tellLeases();
  }

  async control(request: ComputerRequest, work: Work): Promise<unknown> {
    if (!this.#controlled) throw new FarbusError(`${this.#plan.name} is starting`);
    const before = this.#controlled.computer.paused;
    const answer = await answerComputer(request, this.#controlled, work);
    const { paused } = this.#controlled.computer;
    if (paused !== before) this.#state(paused ? 'paused' : 'running', '');
    return answer;
  }

  stop(): Promise<void> {
    return this.#end('stopped', '');
  }

  async #run(): Promise<void> {
    const { name, role, snapshot } = this.#plan;
    this.#state('starting', '');
    this.#trace();
    const log = { log: (level: LogLevel, message: string): void => this.#events.log(level, message) };
    const { name: engine, architecture } = engineOf(this.#plan, process.env);
    const guest = await chooseGuest({ ...systemOf(this.#plan, architecture), log });
    this.#own(async () => guest.close?.());
    const memory = memoryFor(guest, this.#plan.memory, usualMemory[architecture]);
    const adapter = this.#segment && this.#adapter(this.#segment);
    for (const device of this.#plan.devices) await this.#serve(device.name, adapter!);
    this.#tellLeases();
    const drives: ClientDrive[] = [];
    const { reconnectSeconds } = this.#plan;
    const texts = this.#plan.drives.map(driveText);
    const media = new Media(drives, { reconnectSeconds, log, steps: this.#steps }, texts);
    this.#own(() => media.close());
    for (const drive of this.#plan.drives) {
      const opened = await this.#open(drive, adapter);
      drives.push(opened);
      if (drive.kind === 'own' || !opened.device) continue;
      if (this.#over) return opened.device.close();
      media.add(opened.device, driveText(drive));
    }
    if (this.#over) return;
    const { processors } = this.#plan;
    const options = {
      steps: this.#steps,
      log,
      adapter,
      firmware: guest.firmware,
      engine,
      processors,
      onEject: media.ejected,
    };
    const computer =
      role === 'server'
        ? await createServerComputer(drives, memory, options)
        : await createComputer(drives, memory, options);
    this.#computer = computer;
    this.#own(() => computer.stop());
    media.setComputer(computer);
    if (this.#over as boolean) return;
    computer.onSerial(collectBytes((bytes) => this.#events.output(bytes)));
    void computer.ended.then((why) =>
      this.#end(isBadEnd(why) ? 'failed' : 'ended', describeEnd(why, computer.endDetail, 'it')),
    );
    this.#state('booting', guest.version);
    const started = await startGuest(computer, guest, snapshot, memory, {
      log,
      renew: this.#options.renewSnapshot,
    });
    if (started.saved !== undefined) this.#events.log('info', `${name}: saved to ${snapshot!}`);
    const { snapshotFolder } = this.#options;
    this.#controlled = {
      computer,
      media,
      usesScreen: this.#plan.system.bios,
      ...(snapshotFolder !== undefined && {
        saveSnapshot: (signal, file = join(snapshotFolder, `${name}.snapshot`)) =>
          saveRunning(computer, guest, memory, file, signal),
      }),
    };
    if (!this.#over) this.#state('running', started.from === 'snapshot' ? 'from a snapshot' : '');
  }

  /** Creates the network adapter. Only a server traces arriving frames ([SYS] fig. 9). */
  #adapter(segment: Segment): SharedAdapter {
    const { mac, role } = this.#plan;
    const adapter = new SharedAdapter(segment, role === 'server' ? { mac, steps: this.#steps } : { mac });
    this.#own(async () => adapter.close());
    return adapter;
  }

  /** Logs the steps of the boot. If requested, also writes the steps of every command to a file. */
  #trace(): void {
    const { traceFolder } = this.#options;
    const { name, role } = this.#plan;
    if (traceFolder !== undefined) {
      const trace = TracePrinter.bounded(join(traceFolder, name + traceEnd), maxTrace);
      this.#own(() => trace.close());
      this.#steps.add(trace);
    }
    const last = role === 'server' ? '348' : '326';
    const recorder: StepSink = {
      step: ({ traceId, id, detail, wire }: Step) => {
        if (traceId !== 0 || wire !== undefined || frameSteps.has(id)) return;
        this.#events.log('info', `step ${id}: ${detail}`);
        if (id === last) this.#steps.remove(recorder);
      },
    };
    this.#steps.add(recorder);
  }

  /** Starts the virtual I/O server 400 of one physical device 914 ([SYS]). */
  async #serve(name: string, adapter: SharedAdapter): Promise<void> {
    const { source, aoe, readOnly, lease } = this.#plan.devices.find((one) => one.name === name)!;
    const log = { log: (level: LogLevel, message: string): void => this.#events.log(level, message) };
    const device = await openSource(parseSource(source), {
      log,
      readOnly,
      reconnectSeconds: this.#plan.reconnectSeconds,
      signal: this.#gone.signal,
    });
    this.#own(() => device.close());
    let served = device;
    if (lease !== undefined) {
      const arbiter = new LeaseArbiter(device, ['network', 'local'], lease);
      this.#leases.set(`${this.#plan.name}/${name}`, arbiter);
      served = arbiter.side('network');
    }
    const share = adapter.share(targetClaim(aoe.shelf, aoe.slot));
    const target = new AoeTarget(share, served, { ...aoe, readOnly, bufferCount: 64, log, steps: this.#steps });
    this.#own(() => target.close());
  }

  async #open(drive: SiteDrive, adapter: SharedAdapter | undefined): Promise<ClientDrive> {
    const log = { log: (level: LogLevel, message: string): void => this.#events.log(level, message) };
    const { reconnectSeconds } = this.#plan;
    switch (drive.kind) {
      case 'own':
        return { device: this.#leases.get(`${this.#plan.name}/${drive.device}`)!.side('local') };
      case 'text': {
        const { signal } = this.#gone;
        const options = { reconnectSeconds, log, signal, steps: this.#steps };
        return openClientDrive(parseSource(drive.text), options);
      }
      case 'far': {
        const { aoe, readOnly, bus, name, assumeSame } = drive;
        const device = await connectAoe(adapter!.share(initiatorClaim(aoe.shelf, aoe.slot)), {
          ...aoe,
          readOnly,
          assumeSame,
          connectSeconds,
          reconnectSeconds,
          log,
          steps: this.#steps,
          signal: this.#gone.signal,
          onState: (state, detail) =>
            this.#events.log('info', `${name}: ${state}${detail === '' ? '' : `; ${detail}`}`),
        });
        return { device, bus, assumeSame };
      }
    }
  }

  #state(state: ComputerState, detail: string): void {
    if (!this.#over) this.#events.state(state, detail);
  }

  #tellLeases(): void {
    this.#events.leases([...this.#leases].map(([device, { holder, sides }]) => ({ device, holder, sides })));
  }

  /**
   * Registers a function to call when the computer ends, the last one first. Calls it at once if
   * the computer has ended.
   */
  #own(close: () => Promise<unknown>): void {
    if (this.#over) void close().catch(() => undefined);
    else this.#closing.push(close);
  }

  /** Ends the computer. The first reason counts; every call resolves when it has ended. */
  #end(state: ComputerState, detail: string): Promise<void> {
    return (this.#ended ??= this.#close(state, detail));
  }

  async #close(state: ComputerState, detail: string): Promise<void> {
    this.#over = true;
    this.#gone.abort(new FarbusError('it is ended'));
    for (const close of this.#closing.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        this.#events.log('warn', messageOf(error));
      }
    }
    this.#events.state(state, detail);
  }
}
