/** Creates the engine v86 with the module of the package v86. */
import { V86 } from 'v86';
import type { Engine } from '../../engine.js';
import { createV86With, type V86Options } from './engine.js';

/** Creates the machine, which is then paused. */
export function createV86(options: V86Options): Promise<Engine> {
  return createV86With(V86, options);
}
