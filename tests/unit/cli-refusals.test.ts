/** Refusals by the command line, by site files and by running computers, and their messages. */
import { describe, expect, it, vi } from 'vitest';
import { main } from '../../src/cli/main.js';
import { registerComputer } from '../support/computer-control.js';
import { ConfigNode, readConfig } from '../../src/app/config/reader.js';
import { processIo } from '../../src/cli/ui/io.js';
import { readSite } from '../../src/app/config/site.js';
import { bareComputer } from '../support/bare-computer.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Computer } from '../../src/computer/computer.js';

async function farbus(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  let [out, err] = ['', ''];
  const io = {
    ...processIo(),
    env,
    stdout: { write: (text: string | Uint8Array) => ((out += String(text)), true), on: () => 0, once: () => 0 },
    stderr: { write: (text: string) => (err += text) },
  };
  return { status: await main(args, io), out, err };
}

describe('a computer that boots from its drives', () => {
  const run = (...args: string[]) => farbus(['run', '--drive', drive(), ...args], { XDG_RUNTIME_DIR: tempFolder() });
  const drive = () => {
    const path = tempPath('disk');
    writeFileSync(path, Buffer.alloc(1 << 20));
    return path;
  };

  it.each([
    [['--bios', '--uefi'], '--bios and --uefi exclude each other'],
    [['--uefi-vars', 'file'], '--uefi-vars is for --uefi'],
    [['--uefi', '--kernel', 'vmlinuz'], '--uefi boots what is on the drives: leave --kernel out'],
    [['--uefi', '--engine', 'v86'], '--uefi needs the KVM engine: take --engine kvm'],
    ...['--bios', '--uefi', '--initrd=i', '--kernel=k'].map((option): [string[], string] => [
      [option, '--snapshot', 'file'],
      `--snapshot with ${option.split('=')[0]!} needs --snapshot-after TEXT: what your guest prints when it has booted`,
    ]),
    [['--bios', '--screen', '--engine', 'kvm'], '--screen needs a terminal; farbus screenshot needs none'],
  ])('%j is refused in one line', async (args, message) => {
    const { status, err } = await run(...args);
    expect(
      err
        .split('\n')
        .filter((line) => line !== '')
        .at(-1),
    ).toBe(`farbus: ${message}`);
    expect(status).toBe(2);
  });

  it.each(['--bios', '--uefi'])('says for %s why KVM cannot be used, if the output is no terminal', async (option) => {
    vi.stubEnv('FARBUS_NO_KOFFI', '1');
    const { status, err } = await run('--engine', 'kvm', option);
    vi.unstubAllEnvs();
    expect(err).toContain('KVM cannot be used');
    expect(status).toBe(1);
  });
});

describe('names of commands', () => {
  it.each(['constructor', 'toString', '__proto__', 'hasOwnProperty', 'no-such'])(
    '%s, which every object has or none, is no command',
    async (name) => {
      for (const args of [['help', name], [name]]) {
        const { status, out, err } = await farbus(args);
        expect({ status, out }).toEqual({ status: 2, out: '' });
        expect(err).toBe(`farbus: there is no command "${name}"; see farbus --help\n`);
      }
    },
  );

  it.each([
    ['serv', 'serve'],
    ['stauts', 'status'],
    ['screen', 'screenshot'],
  ])('%s is answered with %s, which was probably meant', async (name, meant) => {
    for (const args of [['help', name], [name, '--help'], [name]]) {
      const { status, out, err } = await farbus(args);
      expect({ status, out }).toEqual({ status: 2, out: '' });
      expect(err).toBe(`farbus: there is no command "${name}": did you mean ${meant}? see farbus --help\n`);
    }
  });

  it('are not accepted as sources, filters or keys either', async () => {
    for (const name of ['constructor', '__proto__', 'toString']) {
      for (const args of [
        ['info', `${name}:x`],
        ['info', `d.img,${name}=1`],
        ['run', '--drive', `d.img,bus=${name}`],
        ['type', 'nobody', `<${name}>`],
      ]) {
        expect((await farbus(args, { XDG_RUNTIME_DIR: tempFolder() })).err, args.join(' ')).not.toMatch(
          /internal error/,
        );
      }
    }
  });
});

function site(address: string) {
  const text = `segments:\n  lan: {}\ncomputers:\n  desk:\n    role: client\n    network: lan\n    address: ${address}\n`;
  return readSite('s.yaml', text, { name: 's', checkFile: () => undefined });
}

describe('farbus without arguments', () => {
  it('is wrong use: the help is on stderr, and nothing is in a pipe', async () => {
    const { status, out, err } = await farbus([]);
    expect({ status, out }).toEqual({ status: 2, out: '' });
    expect(err).toMatch(/^farbus: [^]*\nUsage: farbus COMMAND/);
  });
});

describe('farbus version', () => {
  it('prints a line for each program, or JSON', async () => {
    const [plain, json, short] = [await farbus(['version']), await farbus(['version', '--json']), await farbus(['-V'])];
    const { farbus: version, node, engine, koffi, kvm, platform } = JSON.parse(json.out);
    expect(node).toBe(process.versions.node);
    expect(engine).toEqual({ name: 'v86', version: expect.stringMatching(/^\d+\.\d+/) });
    expect(platform).toMatchObject({ system: process.platform, processor: process.arch });
    expect(plain.out).toMatch(
      `farbus ${version}\nnode ${node}\nv86 ${engine.version}\nkoffi ${koffi ?? 'not available'}\n` +
        `kvm ${kvm.usable ? 'usable' : `not usable: ${kvm.why}`}\n`,
    );
    const why = kvm.usable ? undefined : expect.stringMatching(/./);
    expect(kvm).toEqual({ usable: expect.any(Boolean), why });
    expect(short.out).toBe(`farbus ${version}\n`);
  });
});

describe('addresses of a computer', () => {
  it.each([
    ['192.0.2.0/24', /the network itself/],
    ['192.0.2.255/24', /all computers/],
    ['192.0.2.128/25', /the network itself/],
    ['192.0.2.127/25', /all computers/],
    ['10.0.0.0/8', /the network itself/],
    ['10.255.255.255/8', /all computers/],
    ['172.16.0.3/30', /all computers/],
    ['224.0.0.1/4', /no address of one computer/],
    ['127.0.0.1/8', /no address of one computer/],
    ['0.0.0.1/8', /no address of one computer/],
  ])('%s is refused', (address, why) => {
    expect(() => site(address)).toThrow(/^s\.yaml:\d+: .*address: /);
    expect(() => site(address)).toThrow(why);
  });

  it.each([
    '192.0.2.1/24',
    '192.0.2.0/23',
    '10.0.0.255/8',
    '192.0.2.128/24',
    '192.0.2.0/31',
    '192.0.2.1/31',
    '192.0.2.0/32',
  ])("%s is accepted if it is a host's address", (address) => {
    if (address === '192.0.2.0/23') expect(() => site(address)).toThrow(/the network itself/);
    else expect(site(address).computers[0]!.address).toBe(address);
  });
});

describe('YAML that cannot be read', () => {
  const broken = {
    'several documents': 'a: 1\n---\nb: 2\n',
    'an open quote': 'a: "x\n',
    'a key twice': 'a: 1\na: 2\n',
    'a tab': 'a:\n\tb: 1\n',
    'two values in a line': 'a: b: c\n',
    'an unknown alias': 'a: *b\n',
    'an unknown tag': 'a: !x y\n',
    'a bad escape': 'a: "\\q"\n',
    'an open bracket': 'a: [1, 2\n',
    'a bad indentation': 'a:\n    b: 1\n  c: 2\n',
    'a percent sign': '%X\n---\na: 1\n',
  };
  it.each(Object.entries(broken))('%s is told without the names of functions', async (_, text) => {
    const path = tempPath('c.yaml');
    writeFileSync(path, text);
    const messages: string[] = [];
    try {
      readSite('s.yaml', text, { name: 's', checkFile: () => undefined });
    } catch (error) {
      messages.push((error as Error).message);
    }
    await readConfig(path).then(
      (node) => expect(node).toBeInstanceOf(ConfigNode),
      (error: Error) => messages.push(error.message),
    );
    expect(messages.length).toBeGreaterThan(0);
    for (const message of messages) {
      expect(message).toMatch(/^\S+:\d+: [^\n]+$/);
      expect(message.replace(/^\S+ /, '')).not.toMatch(/parse|Document|YAML\.|\(\)|[a-z][A-Z]|[A-Z]_[A-Z]/);
    }
  });
});

describe('farbus type', () => {
  it('to a computer without a screen fails and says why', async () => {
    const folder = tempFolder();
    const { computer, close } = await bareComputer('memory:1M');
    const done = () => Promise.resolve('');
    const media = { drives: [], eject: done, insert: done, attach: done, detach: done };
    const end = await registerComputer('desk', computer, media, { XDG_RUNTIME_DIR: folder }, { usesScreen: false });
    try {
      const { status, err } = await farbus(['type', 'desk', 'x'], { XDG_RUNTIME_DIR: folder });
      expect(status).toBe(1);
      expect(err).toMatch(/takes no keys: its console is the serial port/);
    } finally {
      await end();
      await close();
    }
  });
});

describe('farbus screenshot', () => {
  it('of a computer whose kernel finds no screen fails and leaves no file', async () => {
    const folder = tempFolder();
    const place = 80 * 25;
    const picture = {
      kind: 'text' as const,
      columns: 80,
      rows: 25,
      characters: new Uint8Array(place),
      foreground: new Uint32Array(place),
      background: new Uint32Array(place),
      cursor: undefined,
      font: undefined,
    };
    const computer = { screen: { look: () => picture } } as unknown as Computer;
    const done = () => Promise.resolve('');
    const media = { drives: [], eject: done, insert: done, attach: done, detach: done };
    const end = await registerComputer('desk', computer, media, { XDG_RUNTIME_DIR: folder }, { usesScreen: false });
    try {
      for (const what of [join(folder, 'desk.png'), '--text']) {
        const { status, err } = await farbus(['screenshot', 'desk', what], { XDG_RUNTIME_DIR: folder });
        expect(status).toBe(1);
        expect(err).toMatch(/^farbus: this computer has no screen: its console is the serial port: [^\n]+\n$/);
      }
      expect(existsSync(join(folder, 'desk.png'))).toBe(false);
      // A driver of the guest has found the adapter.
      picture.characters[0] = 'x'.charCodeAt(0);
      expect(await farbus(['screenshot', 'desk', '--text'], { XDG_RUNTIME_DIR: folder })).toMatchObject({ out: 'x\n' });
    } finally {
      await end();
    }
  });
});

describe('farbus run --bios', () => {
  it('without drives is refused before anything is fetched', async () => {
    const { status, err } = await farbus(['run', '--bios'], { XDG_CACHE_HOME: tempFolder() });
    expect(status).toBe(2);
    expect(err).toMatch(/--bios boots what is on the drives: give one with --drive/);
  });
});
