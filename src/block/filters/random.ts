/** Makes base/random.ts available to the filters. */
export { seededRandom } from '../../base/random.js';
