/** The console page of `farbus serve --web` and `farbus up --web` (docs/web.md). */
import { render } from 'preact';
import './style/theme.css';
import './style/layout.css';
import './style/parts.css';
import './style/flow.css';
import './style/devices.css';
import './style/computers.css';
import { App } from './app.js';
import { openLink } from './state/server.js';

openLink();
render(<App />, document.getElementById('page')!);
