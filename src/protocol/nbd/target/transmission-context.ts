/**
 * The objects that the parts of one connection's transmission phase share (transmission.ts,
 * reads.ts, writes.ts, operations.ts).
 */
import type { Steps } from '../../../base/steps.js';
import type { RequestOptions, WriteOptions } from '../../../block/device.js';
import type { ClientCounters } from '../../../block/export-counters.js';
import type { LossWatch } from '../../../block/losses.js';
import type { Agreement } from './check.js';
import type { ChosenContexts } from './contexts.js';
import type { TargetExport } from './export.js';
import type { FileReply } from './file-reply.js';
import type { Arena, Piece } from './memory.js';
import type { Outbox } from './outbox.js';
import type { Request } from './requests.js';

export interface TransmissionContext {
  readonly export: TargetExport;
  /** Counters of this connection. */
  readonly client: ClientCounters;
  readonly agreed: Agreement;
  readonly contexts: ChosenContexts;
  readonly losses: LossWatch;
  readonly arena: Arena;
  readonly outbox: Outbox;
  readonly steps: Steps;
  /** Options of every request: its medium, and the signal that the client is gone. */
  readonly plain: RequestOptions;
  /** Options of a request with FUA. */
  readonly durable: WriteOptions;
  /** Sends the reply of a request in flight, with its data if they come from a file. */
  finish(reply: Piece, data?: FileReply): void;
  /** Answers a request in flight with a device's error. */
  fail(request: Request, error: unknown): void;
}
