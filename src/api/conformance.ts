/**
 * `farbus/conformance`: the tests that every block device of Farbus passes, for your own device or
 * filter and your own test runner. Runs in Node and in browsers.
 *
 * @module farbus/conformance
 */
export { ConformanceError } from '../conformance/expect.js';
export type { FacetName, ReadDescriptor } from '../conformance/facets.js';
export { conformance } from '../conformance/suite.js';
export type { ConformanceOptions, ConformanceTest, OpenDevice, OpenedDevice } from '../conformance/suite.js';
