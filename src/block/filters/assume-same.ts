/**
 * The option by which the user asserts that a source is the disk that was there before. Overlays,
 * kept caches and reconnections use it where no mark proves it (block/identity.ts).
 */
import { defineFilter, parseFlag } from './definition.js';

export const assumeSameOption = defineFilter({
  options: {
    'assume-same': {
      about:
        'assert that the source is the disk that the overlay, the kept cache or the lost ' +
        'connection had, where nothing else proves it',
      parse: parseFlag,
    },
  },
});
