// Pictures of the dashboards, drawn by Grafana's own components from a dashboard's JSON and what Prometheus answered.
//
//   python scene.py FOLDER              runs programs under a Prometheus and keeps the answers
//   npm install                         461 MB: maintainers only
//   node draw.mjs FOLDER OUTPUT         one PNG a dashboard, by a headless Chromium on the PATH
//
// State timelines are not among the published components; they are drawn here from the same field configuration.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const [folder, output, theme = 'dark'] = process.argv.slice(2).map((each, index) => (index < 2 ? resolve(each) : each));
const WIDTH = 1600, CELL = 38;

const bundle = await build({
  entryPoints: [join(here, 'view.jsx')], bundle: true, write: false, format: 'iife', jsx: 'automatic', minify: true,
  alias: { '@grafana/ui': join(process.cwd(), 'node_modules/@grafana/ui/dist/cjs/index.cjs') },
  nodePaths: [join(process.cwd(), 'node_modules')],
  loader: { '.svg': 'dataurl', '.woff2': 'dataurl', '.woff': 'dataurl', '.ttf': 'dataurl', '.png': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' }, outdir: here, logLevel: 'error',
});
const script = bundle.outputFiles.find((file) => file.path.endsWith('.js')).text;
const styles = bundle.outputFiles.filter((file) => file.path.endsWith('.css')).map((file) => file.text).join('\n');
mkdirSync(output, { recursive: true });

for (const name of readdirSync(folder).filter((each) => each.endsWith('.json'))) {
  const scene = JSON.parse(readFileSync(join(folder, name), 'utf8'));
  const rows = Math.max(...scene.board.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  const page = join(output, name.replace('.json', '.html'));
  const data = JSON.stringify({ ...scene, theme, width: WIDTH, cell: CELL }).replaceAll('<', '\\u003c');
  writeFileSync(page, `<!doctype html><meta charset="utf-8"><style>html{font-size:14px}body{margin:0}*{box-sizing:border-box}button{color:inherit;background:none;border:0;font:inherit}table,th,td{border:0}${styles}</style>
<div id="root"></div><script>window.scene=${data};window.grafanaBootData={settings:{},user:{}}</script><script>${script.replaceAll('</script', '<\\/script')}</script>`);
  execFileSync('chromium', ['--headless=new', '--no-sandbox', '--hide-scrollbars', '--virtual-time-budget=15000',
    `--window-size=${WIDTH},${rows * CELL + 60}`, `--screenshot=${page.replace('.html', '.png')}`, `file://${page}`],
    { stdio: ['ignore', 'ignore', 'pipe'] });
}
