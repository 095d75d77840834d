"use strict";
(() => {
  const EVERY_MS = 2000;
  const TIERS = ["moderate", "high", "severe", "critical"];
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const percent = (value) => (value == null ? "–" : `${Number((value * 100).toFixed(1))}%`);
  const size = (value) => {
    if (value == null) return "–";
    let step = 0;
    while (value >= 1000 && step < UNITS.length - 1) { value /= 1024; step += 1; }
    return `${Number(value.toFixed(value >= 100 ? 0 : 1))} ${UNITS[step]}`;
  };
  let charts = [];
  let last = null;

  // The tier lines: dashed, each with its name, in the tier's own colour.
  const tierLines = () => ({
    hooks: {
      draw: [(plot) => {
        const { ctx, bbox } = plot;
        const ratio = devicePixelRatio;
        ctx.save();
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        ctx.textAlign = "right";
        const levels = TIERS.flatMap((tier, place) => {
          const level = last && last.thresholds[tier];
          return level == null ? [] : [{ tier, place, y: plot.valToPos(level, "y", true) }];
        });
        for (const { tier, y } of levels) {
          ctx.strokeStyle = color(tier);
          ctx.setLineDash([4 * ratio, 4 * ratio]);
          ctx.beginPath();
          ctx.moveTo(bbox.left, y);
          ctx.lineTo(bbox.left + bbox.width, y);
          ctx.stroke();
        }
        // Side by side and cleared of the lines: two tiers may lie close together.
        ctx.setLineDash([]);
        ctx.lineJoin = "round";
        ctx.lineWidth = 5 * ratio;
        ctx.textBaseline = "middle";
        ctx.strokeStyle = color("card");
        for (const { tier, place, y } of levels) {
          const x = bbox.left + bbox.width - (4 + (TIERS.length - 1 - place) * 62) * ratio;
          ctx.fillStyle = color(tier);
          ctx.strokeText(tier, x, y);
          ctx.fillText(tier, x, y);
        }
        ctx.restore();
      }],
    },
  });

  const two = (number) => String(number).padStart(2, "0");
  const clock = (unix, seconds) => {
    const at = new Date(unix * 1000);
    return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
  };
  const moment = (unix) => (unix == null ? "–" : `${new Date(unix * 1000).toLocaleDateString()} ${clock(unix, true)}`);
  const times = (_plot, ticks) => ticks.map((tick) => clock(tick, ticks.length < 2 || ticks[1] - ticks[0] < 60));
  // Sizes are powers of 1024, so are the grid lines.
  const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power);

  const axis = (values, width) => ({
    stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, size: width, values,
    font: "11px system-ui, sans-serif",
  });

  const chart = (element, lines, format, range, plugins) => {
    const options = {
      width: element.clientWidth, height: 190, plugins, cursor: { y: false, points: { size: 6 } },
      scales: { y: { range } },
      axes: [
        { ...axis(times, 30), space: 70 },
        { ...axis((_plot, ticks) => ticks.map(format), 62), ...(format === size ? { incrs: BINARY } : {}) },
      ],
      series: [{ label: "at", value: (_plot, unix) => moment(unix) }, ...lines.map((line) => ({ ...line, value: (_plot, value) => format(value) }))],
    };
    return new uPlot(options, [[], ...lines.map(() => [])], element);
  };

  const build = () => {
    for (const plot of charts) plot.destroy();
    const use = document.getElementById("use-chart");
    const memory = document.getElementById("memory-chart");
    use.textContent = memory.textContent = "";
    charts = [
      chart(use, [{ label: "in use", stroke: color("accent"), fill: color("fill"), width: 1.5 }], percent,
        (_plot, _low, high) => [0, Math.min(2, Math.max(1, high * 1.05 || 1))], [tierLines()]),
      chart(memory, [
        { label: "resident", stroke: color("accent"), fill: color("fill"), width: 1.5 },
        { label: "limit", stroke: color("severe"), width: 1.5, dash: [6, 4] },
      ], size, (_plot, _low, high) => [0, (high || 1) * 1.1], []),
    ];
    if (last) draw();
  };

  const draw = () => {
    const { t = [], ratio = [], rss = [], limit = [] } = last.history;
    // A limit far above would press the curve flat: it is drawn only where it tells something.
    const peak = Math.max(...rss.filter((value) => value != null), 0);
    const near = limit.map((value) => (value != null && value <= peak * 4 ? value : null));
    // uPlot shows a whole day around a single look: it gets a blank one before.
    const alone = t.length === 1;
    const shown = (values) => (alone ? [null, ...values] : values);
    const when = alone ? [t[0] - 10, t[0]] : t;
    charts[0].setData([when, shown(ratio)]);
    charts[1].setData([when, shown(rss), shown(near)]);
  };

  const refresh = async () => {
    if (document.hidden) return;
    try {
      const [status, numbers] = await Promise.all([fetch("api/v1/status.json"), fetch("api/v1/numbers.html")]);
      if (!status.ok || !numbers.ok) throw new Error(status.status);
      last = await status.json();
      const fresh = new DOMParser().parseFromString(await numbers.text(), "text/html");
      for (const id of ["summary", "details"]) document.getElementById(id).replaceWith(fresh.getElementById(id));
      document.title = `${(last.tier || "?").toUpperCase()} · ${last.service || "AMM"}`;
      draw();
      document.body.classList.remove("stale");
    } catch (error) {
      document.body.classList.add("stale");
    }
  };

  const start = () => {
    build();
    refresh();
    setInterval(refresh, EVERY_MS);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
    addEventListener("resize", () => charts.forEach((plot) => plot.setSize({ width: plot.root.parentElement.clientWidth, height: 190 })));
  };
  start();
})();
