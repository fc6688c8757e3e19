#!/usr/bin/env node
// Confines itself and becomes another program (src/protocol/qemu/sandbox/confine.node.ts). Farbus
// starts it; users do not. Its arguments: the files that the program may reach, as JSON; the
// program's path; the program's arguments.
const [reach, program, ...args] = process.argv.slice(2);
import('../dist/protocol/qemu/sandbox/confine.node.js')
  .then(({ confine }) => confine(JSON.parse(reach), program, args))
  .catch((error) => {
    process.stderr.write(`${program} is not started, as it cannot be confined: ${error.message}\n`);
    process.exitCode = 125;
  });
