/** The answers of the server's interface, as docs/web.md describes them. */

export interface ClientInfo {
  readonly id: string;
  readonly peer: string;
  readonly tlsName?: string;
  /** The name that it gives itself: a computer in a tab says its own. */
  readonly label?: string;
  /** Seconds since it connected. */
  readonly connected: number;
  readonly requests: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Seconds since its last write. */
  readonly lastWrite?: number;
}

export interface MediumInfo {
  readonly present: boolean;
  readonly held: boolean;
}

export interface ExportInfo {
  readonly name: string;
  readonly description: string;
  readonly size: number;
  readonly readOnly: boolean;
  /** True if this page's token permits writing. */
  readonly mayWrite: boolean;
  /** The connection that may write, '' for none; only with one writer at a time. */
  readonly writer?: string;
  readonly medium?: MediumInfo;
  /** Seconds since the server of its source was lost; absent while it is there. */
  readonly away?: number;
  readonly clients: readonly ClientInfo[];
  /** Connections that use it now, and that have used it since it was opened. */
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly requests: number;
  readonly errors: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

export interface PageRights {
  /** The token may change things, and see computers. */
  readonly control: boolean;
  /** The token may lend disks to this server. */
  readonly lend: boolean;
}

/** `GET /api/exports`. */
export interface ServerInfo {
  readonly name: string;
  readonly uptime: number;
  readonly listening: readonly string[];
  readonly connections: { readonly open: number; readonly accepted: number; readonly refused: number };
  readonly memory: number;
  readonly rights: PageRights;
  readonly exports: readonly ExportInfo[];
}

/** One export in a `state` event. Counts and bytes are per second. */
export interface ExportRates {
  readonly name: string;
  readonly clients: number;
  readonly writer?: string;
  readonly medium?: MediumInfo;
  /** Present while the server of its source is lost. */
  readonly away?: true;
  readonly reads: number;
  readonly writes: number;
  readonly read: number;
  readonly written: number;
  readonly errors: number;
  /** In ms; absent without requests. */
  readonly latency?: { readonly p50: number; readonly p99: number };
}

export interface StateEvent {
  readonly type: 'state';
  /** In ms since 1970. */
  readonly time: number;
  readonly exports: readonly ExportRates[];
}

/** A command that the server has carried out. */
export interface ServedCommand {
  readonly time: number;
  readonly export: string;
  readonly client: string;
  readonly operation: 'read' | 'write' | 'flush' | 'trim' | 'zeroes' | 'extents';
  readonly offset: number;
  readonly length: number;
  /** Time of the export's device, in ms. */
  readonly ms: number;
  /** '' if it succeeded. */
  readonly error: string;
}

export interface CommandsEvent {
  readonly type: 'commands';
  readonly dropped: number;
  readonly commands: readonly ServedCommand[];
}

/** A drive of a computer, and the change that is possible now. */
export interface DriveInfo {
  readonly drive: number;
  readonly kind: string;
  readonly source?: string;
  readonly can?: 'eject' | 'insert' | 'attach' | 'detach';
}

/** One computer of `GET /api/computers`. */
export interface ComputerInfo {
  readonly name: string;
  readonly site?: string;
  readonly state: string;
  /** Why a computer of a site is in this state; absent if there is nothing to say. */
  readonly detail?: string;
  readonly since: string;
  readonly uses: readonly string[];
  readonly reach: readonly string[];
  readonly drives: readonly DriveInfo[];
  /** The requests that work for it: `console`, `screen`, `pause`, `stop` … */
  readonly can: readonly string[];
}
