/** The filters' seeded random numbers: those of base. */
export { seededRandom } from '../../base/random.js';
