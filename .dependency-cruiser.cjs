// Checks the one-way flow of ARCHITECTURE.md: which other folders each folder of src/ may import.
const may = {
  base: [],
  linux: ['base'],
  spec: [],
  block: ['base'],
  network: ['base', 'linux'],
  conformance: ['base', 'block'],
  probe: ['base', 'block'],
  storage: ['base', 'linux', 'block'],
  machine: ['base', 'linux', 'spec'],
  device: ['base', 'spec', 'block', 'machine'],
  protocol: ['base', 'linux', 'spec', 'block', 'network'],
  computer: ['base', 'spec', 'block', 'probe', 'device', 'machine', 'network'],
  guest: ['base', 'machine'],
  site: ['base', 'linux', 'network', 'protocol'],
  web: ['base', 'browser', 'machine', 'block', 'network', 'probe', 'protocol', 'storage', 'export'],
  browser: ['base', 'block', 'network', 'probe', 'storage', 'machine', 'protocol', 'computer'],
  app: [
    'base',
    'browser',
    'linux',
    'block',
    'network',
    'probe',
    'storage',
    'machine',
    'device',
    'protocol',
    'computer',
    'export',
    'guest',
    'site',
    'web',
  ],
  // The lists of what the package exports, one file for each subpath.
  api: [
    'app',
    'base',
    'block',
    'browser',
    'conformance',
    'probe',
    'storage',
    'machine',
    'protocol',
    'network',
    'computer',
    'export',
    'guest',
    'site',
    'web',
  ],
};
/** Files besides *.node.ts that may use Node. */
const nodeToo = '^src/(app|cli)/|^src/api/node\\.ts$';

const layers = Object.entries(may).map(([folder, allowed]) => ({
  name: `flow-${folder}`,
  comment: `src/${folder} imports only ${allowed.join(', ') || 'nothing of ours'}`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: { path: '^src/', pathNot: `^src/(${[folder, ...allowed].join('|')})/` },
}));

// The same for the folders of src/device. All of them may import the files of src/device itself.
const devices = { nvme: [], ahci: ['ata'], ata: ['scsi'], scsi: [], virtio: [] };
const deviceLayers = Object.entries(devices).map(([folder, allowed]) => ({
  name: `flow-device-${folder}`,
  comment: `src/device/${folder} imports of the other devices only ${allowed.join(', ') || 'none'}`,
  severity: 'error',
  from: { path: `^src/device/${folder}/` },
  to: { path: '^src/device/[^/]+/', pathNot: `^src/device/(${[folder, ...allowed].join('|')})/` },
}));

// Exports know no protocol. An adapter knows the exports and its own protocol, no other adapter.
const exportLayers = [
  {
    name: 'flow-export',
    comment: 'The files of src/export import only base, linux, block: the adapters in its folders know protocols',
    severity: 'error',
    from: { path: '^src/export/[^/]+$' },
    to: { path: '^src/', pathNot: '^src/(base/|linux/|block/|export/[^/]+$)' },
  },
  {
    name: 'flow-export-adapters',
    comment: 'An adapter in src/export imports only base, linux, block, network, the exports, and its own protocol',
    severity: 'error',
    from: { path: '^src/export/([^/]+)/' },
    to: { path: '^src/', pathNot: '^src/(base/|linux/|block/|network/|protocol/$1/|export/$1/|export/[^/]+$)' },
  },
];

const webLayers = [
  {
    name: 'flow-web-page',
    comment: 'The console page runs in a browser: it imports only base, browser, machine, storage, web/lend',
    severity: 'error',
    from: { path: '^src/web/page/' },
    to: { path: '^src/', pathNot: '^src/(base|browser|machine|storage|web/lend|web/page)/' },
  },
  {
    name: 'only-the-page-imports-the-page',
    comment: 'The build bundles the page; other code cannot load it',
    severity: 'error',
    from: { path: '^src/', pathNot: '^src/web/page/' },
    to: { path: '^src/web/page/' },
  },
];

module.exports = {
  forbidden: [
    ...layers,
    ...deviceLayers,
    ...exportLayers,
    ...webLayers,
    {
      name: 'only-the-command-line-imports-cli',
      comment: 'src/cli has commands and terminal output; what others need too belongs to src/app',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/cli/' },
      to: { path: '^src/cli/' },
    },
    {
      name: 'nothing-imports-the-export-lists',
      comment: 'src/api lists what the package exports; code imports the files themselves',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^src/api/' },
    },
    {
      name: 'only-two-subpaths-reach-an-engine',
      comment: 'A program that imports farbus and makes no computer loads no engine',
      severity: 'error',
      from: { path: '^src/api/', pathNot: '^src/api/(node|v86)\\.ts$' },
      to: { path: '(^|/)node_modules/|^src/machine/engines/', reachable: true },
    },
    { name: 'no-cycle', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'devices-know-no-engine',
      comment: 'A logical device meets the machine through its seams, never through an engine',
      severity: 'error',
      from: { path: '^src/(device|computer|block|protocol)/' },
      to: { path: '^src/machine/engines/' },
    },
    {
      name: 'node-only-code-says-so',
      comment: 'Only *.node.ts files, app, cli and the list of farbus/node may use Node or a file that does',
      severity: 'error',
      from: { path: '^src/', pathNot: `(\\.node\\.ts$|${nodeToo})` },
      to: { path: '(\\.node\\.ts$|^node:)' },
    },
    {
      name: 'node-builtins',
      severity: 'error',
      from: { path: '^src/', pathNot: `(\\.node\\.ts$|${nodeToo})` },
      to: { dependencyTypes: ['core'] },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist' },
  },
};
