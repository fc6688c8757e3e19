/** The advice at the end of `farbus demo`. */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export function tryNext(): string {
  return `Try next, in two terminals:
  npx farbus serve some-disk.img
  npx farbus run --drive nbd://localhost/some-disk.img
or a site of your own:
  npx farbus up ${exampleSite()}
`;
}

/** The path of the example that comes with this program, as short as it can be typed here. */
function exampleSite(): string {
  const path = fileURLToPath(new URL('../../../examples/demo.yaml', import.meta.url));
  const near = relative(process.cwd(), path);
  return near.startsWith('..') ? path : near;
}
