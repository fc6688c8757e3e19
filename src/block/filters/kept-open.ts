/**
 * A device that its owner keeps: closing this filter waits for its own requests and leaves the next
 * device open.
 */
import { FactsFilter } from './facts.js';

export class KeptOpenFilter extends FactsFilter {
  protected override doClose(): Promise<void> {
    return Promise.resolve();
  }
}
