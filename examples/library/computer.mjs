// Starts a Debian with a far disk, and runs a command in it.
//
//   node examples/library/computer.mjs nbd://server/disk.img 'blkid /dev/nvme0n1'
import { startDebian } from 'farbus/node';

const [disk, command] = process.argv.slice(2);
const debian = await startDebian({ drives: [`${disk},read-only`] });
try {
  const { output, status } = await debian.run(command);
  process.stdout.write(output);
  process.exitCode = status;
} finally {
  await debian.close();
}
