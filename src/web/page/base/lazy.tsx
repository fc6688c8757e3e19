/** Loads a component's code when it is shown first, so that the first load of the page is small. */
import type { ComponentType, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

/** A component whose module, with the component as its default export, is loaded on demand. */
export function lazy<P extends object>(load: () => Promise<{ readonly default: ComponentType<P> }>): ComponentType<P> {
  return function Lazy(props: P): JSX.Element | null {
    const [Loaded, setLoaded] = useState<ComponentType<P> | undefined>(undefined);
    const [failed, setFailed] = useState(false);
    useEffect(() => {
      let over = false;
      load().then(
        (module) => !over && setLoaded(() => module.default),
        () => !over && setFailed(true),
      );
      return () => {
        over = true;
      };
    }, []);
    if (failed) return <p class="bad-text">This part of the page cannot be loaded: load the page again.</p>;
    return Loaded === undefined ? null : <Loaded {...props} />;
  };
}
