/** Registers a computer in this process, as `farbus run` does, for tests of other commands. */
import { ConsoleFeed } from '../../src/base/console-feed.js';
import type { Computer } from '../../src/computer/computer.js';
import { computerHandler, type MediaChanger } from '../../src/app/computer/control.js';
import { register } from '../../src/app/control/registry.js';

/** Returns a function that ends the registration. */
export async function registerComputer(
  name: string,
  computer: Computer,
  media: MediaChanger,
  env: NodeJS.ProcessEnv,
  { usesScreen = true } = {},
): Promise<() => Promise<void>> {
  const facts = { state: 'running', uses: [], reach: [] };
  const own = await register({ kind: 'computer', name, usual: name, env, end: () => undefined }, facts);
  own.serve(computerHandler({ computer, media, usesScreen }, new ConsoleFeed()), () => facts);
  return () => own.close();
}
