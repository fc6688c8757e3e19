/**
 * Runs once before all tests: installs the peers, and builds the command that tests start as users
 * do.
 */
import { execFileSync } from 'node:child_process';
import { setUpPeers } from './peers-setup.js';

export default function setup(): void {
  setUpPeers();
  execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
}
