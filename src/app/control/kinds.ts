/** The kinds of running processes, and what the name of a control socket says about one. */

/** The command that runs the process, except `computer` for `farbus run` and `site` for `up`. */
export type ProcessKind = 'computer' | 'serve' | 'attach' | 'site';

/** The kinds for people. */
export const kindWords: Readonly<Record<ProcessKind, string>> = {
  computer: 'computer',
  serve: 'server',
  attach: 'disk',
  site: 'site',
};

/** A control socket and its owner, as its file name says. */
export interface Registered {
  readonly kind: ProcessKind;
  readonly name: string;
  readonly pid: number;
  /** Path of the control socket. */
  readonly path: string;
}
