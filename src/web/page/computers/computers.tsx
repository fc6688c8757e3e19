/** The section "Computers": those in this tab, and those that run beside the server. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { useStore } from '../base/store.js';
import type { ComputerInfo } from '../state/contract.js';
import { get } from '../state/request.js';
import { server } from '../state/server.js';
import { tabComputers } from '../state/tab-computers.js';
import { FarComputer } from './far-computer.js';
import { TabComputerPanel } from './tab-computer.js';

/** Time between two looks at the computers, in ms. */
const lookMs = 2500;

export function Computers(): JSX.Element {
  const own = useStore(tabComputers);
  // Only the console token sees the computers beside the server.
  const control = useStore(server)?.rights.control ?? false;
  return (
    <div class="section">
      <header>
        <h1>Computers</h1>
        <p class="lead">
          {control
            ? 'The computers in this tab, and those of farbus run and of running sites beside the server.'
            : 'The computers in this tab.'}
        </p>
      </header>
      {own.map((entry) => (
        <TabComputerPanel entry={entry} key={entry.id} />
      ))}
      {control && <FarComputers none={own.length === 0} />}
      {!control && own.length === 0 && <None />}
    </div>
  );
}

function None(): JSX.Element {
  return (
    <p class="notice">
      No computer runs now. <a href="#/boot">Boot one here</a>, in this tab.
    </p>
  );
}

/** @param none true if there are no others */
function FarComputers({ none }: { readonly none: boolean }): JSX.Element {
  const [far, setFar] = useState<readonly ComputerInfo[] | undefined>(undefined);
  const [why, setWhy] = useState('');
  const look = async (): Promise<void> => {
    try {
      setFar(await get<readonly ComputerInfo[]>('api/computers'));
      setWhy('');
    } catch (error) {
      setWhy(error instanceof Error ? error.message : String(error));
    }
  };
  useEffect(() => {
    void look();
    const timer = setInterval(() => void look(), lookMs);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      {why !== '' && far === undefined && <p class="notice bad">{why}</p>}
      {far?.length === 0 && none && <None />}
      {far?.map((info) => (
        <FarComputer info={info} onChange={() => void look()} key={info.name} />
      ))}
    </>
  );
}
