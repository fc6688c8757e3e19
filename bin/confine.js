#!/usr/bin/env node
// Confines itself and becomes another program: src/protocol/qemu/sandbox/confine.node.ts. Not for users. Its arguments are what
// the program may reach, as JSON, the program's path, and its arguments.
const [reach, program, ...args] = process.argv.slice(2);
import('../dist/protocol/qemu/sandbox/confine.node.js')
  .then(({ confine }) => confine(JSON.parse(reach), program, args))
  .catch((error) => {
    process.stderr.write(`${program} is not started, as it cannot be confined: ${error.message}\n`);
    process.exitCode = 125;
  });
