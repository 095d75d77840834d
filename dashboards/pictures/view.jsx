import { Component } from 'react';
import { createRoot } from 'react-dom/client';
import {
  FieldType, applyFieldOverrides, createTheme, dateTime, getDisplayProcessor,
  getFieldDisplayValues, standardEditorsRegistry, standardFieldConfigEditorRegistry, standardTransformers,
  standardTransformersRegistry, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, Table, ThemeContext, TimeSeries } from '@grafana/ui';

const { board, answers, to, seconds, theme: mode, width: WIDTH, cell: CELL } = window.scene;
const theme = createTheme({ colors: { mode } });
const range = { from: dateTime((to - seconds) * 1000), to: dateTime(to * 1000) };
range.raw = { from: range.from, to: range.to };
const transformers = new Map(Object.values(standardTransformers).map((each) => [each.id, each]));
standardTransformersRegistry.setInit(() => [...transformers.values()].map((each) => ({
  id: each.id, name: each.name ?? each.id, transformation: () => Promise.resolve(each),
})));

const property = (id) => ({
  id, path: id.replace('custom.', ''), name: id, isCustom: id.startsWith('custom.'), settings: {}, editor: () => null, override: () => null,
  shouldApply: () => true, process: (value) => value,
});
const plain = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'mappings', 'links'];
standardFieldConfigEditorRegistry.setInit(() => plain.map(property));
standardEditorsRegistry.setInit(() => []);

function registryOf({ defaults, overrides }) {
  const named = overrides.flatMap((override) => override.properties.map((each) => each.id));
  const ids = new Set([...plain, ...Object.keys(defaults.custom ?? {}).map((key) => 'custom.' + key), ...named]);
  const items = new Map([...ids].map((id) => [id, property(id)]));
  return { list: () => [...items.values()], getIfExists: (id) => items.get(id), get: (id) => items.get(id) };
}

const legend = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, key) => labels[key] ?? '').trim();

function frames(panel) {
  return panel.targets.flatMap((target) => {
    const found = answers[`${panel.id}/${target.refId}`] ?? [];
    if (target.format === 'table') {
      const keys = [...new Set(found.flatMap((series) => Object.keys(series.metric)))].filter((key) => key !== '__name__');
      const fields = [
        { name: 'Time', type: FieldType.time, values: found.map((series) => series.value[0] * 1000) },
        ...keys.map((key) => ({ name: key, type: FieldType.string, values: found.map((series) => series.metric[key] ?? '') })),
        { name: panel.targets.length > 1 ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: found.map((series) => Number(series.value[1])) },
      ];
      return [toDataFrame({ refId: target.refId, fields })];
    }
    return found.map((series) => {
      const points = series.values ?? [series.value];
      const name = legend(target.legendFormat ?? '', series.metric);
      const [times, numbers] = gaps(points);
      return toDataFrame({ refId: target.refId, name, fields: [
        { name: 'Time', type: FieldType.time, values: times },
        { name: name || 'Value', type: FieldType.number, values: numbers, labels: {}, config: name ? { displayNameFromDS: name } : {} },
      ] });
    });
  });
}

function gaps(points) {
  const times = [], numbers = [];
  for (const [at, text] of points) {
    if (times.length && at * 1000 - times.at(-1) > 2500) { times.push(times.at(-1) + 1000); numbers.push(null); }
    times.push(at * 1000); numbers.push(Number(text));
  }
  return [times, numbers];
}

const prepared = (data, panel) => applyFieldOverrides({
  data, fieldConfig: structuredClone(panel.fieldConfig), replaceVariables: (text) => text, theme, timeZone: 'utc', fieldConfigRegistry: registryOf(panel.fieldConfig),
});

function Lines({ panel, width, height }) {
  const data = prepared(frames(panel), panel);
  if (!data.length) return <Nothing panel={panel} height={height} />;
  return <TimeSeries frames={data} width={width} height={height} timeRange={range} timeZone="utc"
    legend={{ ...panel.options.legend, displayMode: 'list', calcs: [] }} options={panel.options} structureRev={1} />;
}

function Values({ panel, width, height, draw }) {
  const display = getFieldDisplayValues({
    data: prepared(frames(panel), panel), fieldConfig: structuredClone(panel.fieldConfig), reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text, theme, timeZone: 'utc', fieldConfigRegistry: registryOf(panel.fieldConfig),
  }).filter((each) => each.hasLinks !== undefined || each.display);
  return draw(display, width, height);
}

const bigValues = (display, width, height) => {
  const each = Math.floor(height / Math.max(1, display.length));
  return display.map((value, index) => <BigValue key={index} theme={theme} width={width} height={each}
    value={{ ...value.display, title: display.length > 1 ? value.display.title : '' }} colorMode="value" graphMode="none" justifyMode="auto" textMode={display.length > 1 ? 'value_and_name' : 'value'} />);
};

const bars = (display, width, height) => {
  const sorted = [...display].sort((left, right) => right.display.numeric - left.display.numeric);
  const each = Math.min(70, Math.floor(height / Math.max(1, sorted.length)));
  return sorted.map((value, index) => <BarGauge key={index} theme={theme} width={width} height={each - 4} orientation="horizontal"
    displayMode="basic" showUnfilled value={value.display} field={value.field} display={getDisplayProcessor({ field: { type: FieldType.number, config: value.field }, theme })} />);
};

class Grid extends Component {
  state = { frame: null };
  componentDidMount() {
    const { panel } = this.props;
    transformDataFrame(panel.transformations, frames(panel), { interpolate: (text) => text }).subscribe((data) => {
      const [frame] = prepared(data, panel);
      this.setState({ frame });
    });
  }
  render() {
    const { frame } = this.state;
    if (!frame?.fields.length) return <Nothing panel={this.props.panel} height={this.props.height} />;
    return <Table data={frame} width={this.props.width} height={this.props.height} initialSortBy={this.props.panel.options.sortBy} />;
  }
}

function States({ panel, width, height }) {
  const data = prepared(frames(panel), panel);
  const names = 24 + 6.4 * Math.max(20, ...data.map((frame) => frame.name.length)), row = Math.min(34, Math.floor((height - 22) / Math.max(1, data.length)));
  const x = (time) => names + ((time - range.from.valueOf()) / (seconds * 1000)) * (width - names - 8);
  return <svg width={width} height={height} fontFamily={theme.typography.fontFamily} fontSize="12">
    {data.map((frame, line) => {
      const [time, field] = frame.fields;
      const shown = [...field.values].map((value) => field.display(value));
      const runs = [];
      shown.forEach((value, index) => {
        const last = runs.at(-1);
        if (last && last.text === value.text) last.end = time.values[index];
        else { if (last) last.end = time.values[index]; runs.push({ text: value.text, color: value.color, start: time.values[index], end: time.values[index] + 1000 }); }
      });
      return <g key={line} transform={`translate(0 ${line * row})`}>
        <text x={names - 10} y={row / 2 + 4} textAnchor="end" fill={theme.colors.text.primary}>{frame.name}</text>
        {runs.map((run, index) => <g key={index}>
          <rect x={x(run.start)} y={3} width={Math.max(1, x(run.end) - x(run.start))} height={row - 6} fill={run.color} fillOpacity=".8" />
          {x(run.end) - x(run.start) > run.text.length * 8 + 8 && <text x={x(run.start) + 6} y={row / 2 + 4} fill="#111">{run.text}</text>}
        </g>)}
      </g>;
    })}
  </svg>;
}

const Nothing = ({ panel, height }) => <div style={{ height, display: 'grid', placeItems: 'center', color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;

const views = {
  timeseries: Lines, table: Grid, 'state-timeline': States,
  stat: (props) => <Values {...props} draw={bigValues} />, bargauge: (props) => <Values {...props} draw={bars} />,
};

class Safe extends Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  render() { return this.state.error ? <pre style={{ color: 'red' }}>{String(this.state.error.stack).slice(0, 600)}</pre> : this.props.children; }
}

const column = WIDTH / 24;
function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const at = { position: 'absolute', left: x * column + 4, top: y * CELL + 44, width: w * column - 8, height: h * CELL - 8 };
  if (panel.type === 'row') return <div style={{ ...at, lineHeight: '30px', fontWeight: 500, color: theme.colors.text.primary }}>⌄ {panel.title}</div>;
  const View = views[panel.type];
  return <div style={at}><PanelChrome title={panel.title} width={at.width} height={at.height}>
    {(width, height) => <Safe><View panel={panel} width={width} height={height} /></Safe>}
  </PanelChrome></div>;
}

document.body.style.color = theme.colors.text.primary;
document.body.style.background = theme.colors.background.canvas;
document.body.style.fontFamily = theme.typography.fontFamily;
createRoot(document.getElementById('root')).render(<ThemeContext.Provider value={theme}>
  <div style={{ padding: '10px 12px', fontSize: 18, color: theme.colors.text.primary }}>{board.title}</div>
  {board.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
</ThemeContext.Provider>);
