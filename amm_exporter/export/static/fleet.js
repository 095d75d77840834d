"use strict";
(() => {
  const EVERY_MS = 5000;
  const TEXT = ["name", "cgroup"];
  const TIERS = ["normal", "moderate", "high", "severe", "critical"];
  const UNITS = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
  const heads = [...document.querySelectorAll("th[data-key]")];
  const words = new Intl.Collator(undefined, { numeric: true }).compare;
  let served = [];
  let sorted = null;

  // A cell's number, from what it says: "1.5 GiB", "-3 MiB/h", "87.1%", "4 GiB policy"; a tier by its rank, nothing last.
  const weight = (text) => {
    const [, number, unit] = /^(-?[\d.]+)(?: ([KMGT]?i?B))?/.exec(text) || [];
    if (number === undefined) return TIERS.includes(text) ? TIERS.indexOf(text) : -Infinity;
    return number * (UNITS[unit] || 1);
  };

  // The address keeps the order, so that it outlives a reload and can be handed on: #slope, or #-slope for the least first.
  const chosen = () => {
    const name = location.hash.slice(1);
    return { key: name.replace(/^-/, ""), down: !name.startsWith("-") };
  };

  // Equal ones stay as they were served: the worst first.
  const sort = () => {
    const { key, down } = chosen();
    const place = heads.findIndex((head) => head.dataset.key === key);
    for (const head of heads) head.removeAttribute("aria-sort");
    const rows = [...served];
    if (place >= 0) {
      heads[place].setAttribute("aria-sort", down ? "descending" : "ascending");
      const said = new Map(rows.map((row) => [row, (row.cells[place] || row.cells[0]).textContent]));
      const compare = TEXT.includes(key) ? words : (one, other) => weight(one) - weight(other) || 0;
      rows.sort((one, other) => (down ? -1 : 1) * compare(said.get(one), said.get(other)));
    }
    document.getElementById("processes").replaceChildren(...rows);
  };

  const choose = (key) => {
    const now = chosen();
    const down = now.key === key ? !now.down : !TEXT.includes(key);
    history.replaceState(null, "", `#${down ? "" : "-"}${key}`);
    sort();
  };

  const refresh = async () => {
    // Nobody can copy a pid from rows that are being replaced: the time in the header stands still meanwhile.
    if (document.hidden || !getSelection().isCollapsed) return;
    try {
      const answer = await fetch("api/v1/numbers.html");
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const id of ["summary", "rest"]) document.getElementById(id).replaceWith(fresh.getElementById(id));
      served = [...fresh.getElementById("processes").rows];
      document.title = document.getElementById("summary").dataset.title;
      sort();
      document.body.classList.remove("stale");
    } catch (error) {
      document.body.classList.add("stale");
    }
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.addEventListener("click", () => choose(head.dataset.key));
    head.replaceChildren(button);
  }
  served = [...document.getElementById("processes").rows];
  sort();
  addEventListener("hashchange", sort);
  document.addEventListener("visibilitychange", refresh);
  refresh();
  setInterval(refresh, EVERY_MS);
})();
