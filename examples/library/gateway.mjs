// Offers a disk of another computer to the programs of this one. Their writes stay in an overlay.
//
//   node examples/library/gateway.mjs ssh://server/dev/sdb changes.img
import { serve } from 'farbus/node';

const [source, overlay] = process.argv.slice(2);
const server = await serve(
  { disk: `${source},overlay=${overlay}` },
  { listen: 'nbd://127.0.0.1:0', log: { log: (level, line) => console.error(level, line) } },
);
console.log(server.uri('disk'));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.close());
