/** The commands of farbus, in the order of `farbus --help`. A new command is one more line. */
import type { Command } from '../table.js';

/** Loads a command when it is needed: `farbus serve` must not load the guest's engine. */
type Load = () => Promise<{ readonly command: Command }>;

const registry = {
  run: () => import('./run.js'),
  serve: () => import('./serve.js'),
  ps: () => import('./ps.js'),
  status: () => import('./status.js'),
  stop: () => import('./stop.js'),
  attach: () => import('./attach.js'),
  copy: () => import('./copy.js'),
  info: () => import('./info.js'),
  up: () => import('./up.js'),
  down: () => import('./down.js'),
  exec: () => import('./exec.js'),
  console: () => import('./console.js'),
  screenshot: () => import('./screenshot.js'),
  type: () => import('./type.js'),
  media: () => import('./media.js'),
  drive: () => import('./drive.js'),
  pause: () => import('./pause.js'),
  resume: () => import('./resume.js'),
  snapshot: () => import('./snapshot.js'),
  logs: () => import('./logs.js'),
  lease: () => import('./lease.js'),
  certificates: () => import('./certificates.js'),
  'guest-disk': () => import('./guest-disk.js'),
  token: () => import('./token.js'),
  cache: () => import('./cache.js'),
  demo: () => import('./demo.js'),
  help: () => import('./help.js'),
  completion: () => import('./completion.js'),
  version: () => import('./version.js'),
} as const satisfies Record<string, Load>;

export const commandNames: readonly string[] = Object.keys(registry);

/** Loads a command; undefined if there is none of that name. */
export async function loadCommand(name: string): Promise<Command | undefined> {
  if (!Object.hasOwn(registry, name)) return undefined;
  return (await registry[name as keyof typeof registry]()).command;
}

export async function loadCommands(): Promise<Command[]> {
  return Promise.all(Object.values(registry).map(async (load) => (await load()).command));
}
