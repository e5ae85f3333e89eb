"use strict";
(() => {
  const boot = JSON.parse(document.getElementById("boot").textContent);
  const t = boot.labels;
  const ROW = 58; // pixels, as in desk.css: rows of one height let a thousand groups scroll without being drawn
  const $ = (id) => document.getElementById(id);
  const list = $("rows"), track = $("track"), pane = $("group"), dialog = $("dialog"), toast = $("toast");
  const filters = ["category", "missing", "finding", "topic", "unsigned", "since"];
  const narrow = matchMedia("(max-width: 52rem)");

  let rows = [], shown = [], selected = "", version = -1, faults = [];
  let matching = null, changed = null; // ids that the search and the comparison with a release leave; null: all
  let open = null; // the group on the right: {id, saved, record, digest, …}
  const edits = new Map(); // unsaved changes of groups that are not open

  // 1. Small things. All text goes in as text: nothing that a record says can become markup.

  function say(key, ...values) {
    let next = 0;
    return t[key].replace(/\{(\d*)\}/g, (_, number) => values[number === "" ? next++ : Number(number)]);
  }

  function make(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (key in made && key !== "lang" && key !== "list") made[key] = value;
      else if (value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  const button = (text, key, onclick, attributes = {}) =>
    make("button", { type: "button", onclick, ...attributes }, text, key ? make("kbd", {}, key) : null);
  const langOf = (language) => (language === "zh" ? "zh-Hans" : language);
  const copy = (value) => JSON.parse(JSON.stringify(value));
  const reader = () => ({ reader: $("reader").value.trim(), kind: $("kind").value });

  async function ask(path, body = {}) {
    let answer;
    try {
      answer = await fetch(`api/${path}`, {
        method: "POST", headers: { "Content-Type": "application/json", "X-Desk-Token": boot.token }, body: JSON.stringify(body),
      });
    } catch {
      throw Object.assign(new Error(t.network), { status: 0 });
    }
    const found = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(found.error), { status: answer.status, found });
    return found;
  }

  let fading = 0;
  function tell(text, wrong = false) {
    toast.textContent = text;
    toast.className = wrong ? "wrong" : "shown";
    clearTimeout(fading);
    fading = setTimeout(() => { toast.className = ""; }, wrong ? 12000 : 4000);
  }
  const failed = (error) => tell(error.message, true);

  // 2. The list: all rows are known, those in sight are drawn.

  async function load() {
    const found = await ask("rows", { reader: reader().reader });
    ({ rows, faults, version } = found);
    progress(found.checking);
    fill("category", boot.categories.filter((one) => rows.some((row) => row.category === one)));
    fill("missing", boot.languages, (one) => t[one]);
    fill("finding", [...new Set(rows.flatMap((row) => Object.keys(row.findings)))].sort());
    fill("topic", [...new Set(rows.map((row) => row.topic))].sort());
    fill("unsigned", [...boot.languages, ...boot.languages.map((one) => `me ${one}`)],
      (one) => (one.startsWith("me ") ? say("unsigned_by_me", t[one.slice(3)]) : t[one]));
    $("faulty").hidden = faults.length === 0;
    $("faulty").textContent = say("faults", faults.length);
    choose();
  }

  function progress(checking) {
    $("progress").textContent = checking === "failed" ? t.check_failed : checking ? say("checking", checking) : "";
  }

  function fill(name, values, label = (one) => one) {
    const box = $(name), kept = box.value;
    box.replaceChildren(new Option(t.any, ""), ...values.map((one) => new Option(label(one), one)));
    box.value = values.includes(kept) ? kept : "";
  }

  function choose() {
    const want = Object.fromEntries(filters.map((name) => [name, $(name).value]));
    const mine = want.unsigned.startsWith("me ") ? want.unsigned.slice(3) : "";
    shown = rows.filter((row) =>
      (!want.category || row.category === want.category)
      && (!want.missing || !(want.missing in row.signed))
      && (!want.finding || want.finding in row.findings)
      && (!want.topic || row.topic === want.topic)
      && (!want.unsigned || (mine ? mine in row.signed && !row.mine.includes(mine)
        : want.unsigned in row.signed && ["", "stale"].includes(row.signed[want.unsigned])))
      && (!changed || changed.has(row.id))
      && (!matching || matching.has(row.id)));
    $("shown").textContent = shown.length || !rows.length ? say("shown", shown.length, rows.length) : t.none_shown;
    track.style.height = `${shown.length * ROW}px`;
    if (!shown.some((row) => row.id === selected)) selected = shown.length ? shown[0].id : "";
    draw();
  }

  function draw() {
    const from = Math.max(0, Math.floor(list.scrollTop / ROW) - 6);
    const to = Math.min(shown.length, from + Math.ceil(list.clientHeight / ROW) + 12);
    track.replaceChildren(...shown.slice(from, to).map((row, place) => drawRow(row, from + place)));
    list.setAttribute("aria-activedescendant", selected ? `row-${selected}` : "");
  }

  function drawRow(row, place) {
    const worst = ["error", "warning", "note"].find((grade) => Object.values(row.findings).includes(grade));
    const count = Object.keys(row.findings).length;
    const unsaved = edits.has(row.id) || (open && open.id === row.id && isDirty());
    const made = make("div", {
      id: `row-${row.id}`, role: "option", className: "row", "aria-selected": String(row.id === selected),
      "aria-setsize": shown.length, "aria-posinset": place + 1, onclick: () => select(row.id, true),
    },
    make("span", { className: "name" }, row.id, unsaved ? make("b", { title: t.unsaved }, " •") : null),
    make("span", { className: "topic" }, row.topic),
    make("span", { className: "marks" },
      count ? make("span", { className: `badge ${worst}`, title: Object.keys(row.findings).join(", ") }, String(count)) : null,
      ...Object.entries(row.signed).map(([language, state]) => make("span", {
        className: `mark ${state || "none"}`,
        title: `${t[language]}: ${state === "stale" ? say("stale", "…") : state === "fault" ? t.fault : state ? t.signed : t.unsigned_text}`,
      }, language, { fine: "✓", fault: "✗", stale: "~" }[state] || ""))),
    make("span", { className: "head", lang: boot.language }, row.heads[boot.language] || ""));
    made.style.top = `${place * ROW}px`;
    return made;
  }

  function reveal(id) {
    selected = id;
    const top = shown.findIndex((row) => row.id === id) * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    draw();
  }

  let opening = 0;
  function select(id, enter = false) {
    reveal(id);
    clearTimeout(opening);
    if (enter) {
      document.body.classList.add("reading");
      return show(id).catch(failed);
    }
    // running down the list with j does not ask for each group on the way
    if (!narrow.matches) opening = setTimeout(() => show(id).catch(failed), 90);
    return null;
  }

  function move(by) {
    const place = shown.findIndex((row) => row.id === selected);
    const next = shown[Math.min(shown.length - 1, Math.max(0, place + by))];
    if (next) select(next.id, document.body.classList.contains("reading"));
  }

  let searching = 0;
  function search() {
    clearTimeout(searching);
    searching = setTimeout(async () => {
      const words = $("words").value;
      matching = words.trim() ? new Set(await ask("search", { words })) : null;
      choose();
    }, 120);
  }

  async function compare() {
    const release = $("since").value;
    changed = release ? new Set(await ask("changed", { release })) : null;
    choose();
  }

  let asked = false;
  async function offerReleases() {
    if (asked) return;
    asked = true;
    const found = await ask("releases").catch((error) => { failed(error); return []; });
    fill("since", found);
    if (!found.length) $("since").replaceChildren(new Option(t.no_release, ""));
  }

  // 3. One group, side by side.

  const sorted = (key, value) => (value && value.constructor === Object ? Object.fromEntries(Object.entries(value).sort()) : value);
  const plainly = (value) => JSON.stringify(value, sorted); // the order of keys is the file's business
  const isDirty = () => open !== null && plainly(open.record) !== plainly(open.saved);

  function keep() {
    if (open && isDirty()) edits.set(open.id, open);
    else if (open) edits.delete(open.id);
  }

  // what was asked for last is shown, however long something asked for earlier takes
  let visit = 0;
  async function show(id, { fresh = false } = {}) {
    const mine = ++visit;
    if (!fresh && open && open.id === id) return;
    let next = fresh ? null : edits.get(id);
    if (!next) {
      const found = await ask("group", { id });
      if (!found) return;
      next = { id, ...found, saved: found.record, record: copy(found.record), own: [], related: [], broken: [], counts: {} };
    }
    if (mine !== visit) return; // somebody went on meanwhile
    if (open && open.id !== id) keep();
    edits.delete(id);
    open = next;
    drawGroup();
    check();
  }

  const fieldsOf = (category) => boot.fields[category === "translation" ? "translation" : "text"]; // name: plain text or JSON
  const languagesOf = (record) => boot.languages.filter((language) => record[language]);

  function drawGroup() {
    const record = open.record;
    const translation = record.category === "translation";
    const category = make("select", { id: "edit-category", onchange: (event) => {
      if (open.digest === null) { addGroup(event.target.value).catch(failed); return; }
      record.category = event.target.value;
      if (record.category === "question_to_question") record.chain = record.chain || { id: "", step: 1 };
      else delete record.chain;
      drawGroup();
      touched();
    } }, ...boot.categories.map((one) => make("option", {
      value: one, selected: one === record.category, disabled: open.digest !== null && (one === "translation") !== translation,
    }, one)));
    const about = make("div", { className: "about" },
      make("label", {}, t.category, category),
      make("label", {}, t.topic, make("input", { id: "edit-topic", value: record.topic || "", list: "topics",
        oninput: (event) => { record.topic = event.target.value; touched(); } })),
      make("datalist", { id: "topics" }, ...[...new Set(rows.map((row) => row.topic))].sort().map((one) => make("option", { value: one }))));
    if (record.chain) {
      about.append(
        make("label", {}, t.chain, make("input", { id: "edit-chain", value: record.chain.id,
          oninput: (event) => { record.chain.id = event.target.value; touched(); } })),
        make("label", { className: "short" }, t.step, make("input", { id: "edit-step", type: "number", min: 1, value: record.chain.step,
          oninput: (event) => { record.chain.step = event.target.valueAsNumber || 0; touched(); } })));
    }
    const columns = languagesOf(record).map(drawLanguage);
    const more = boot.languages.filter((language) => !record[language]).map((language) =>
      button(say("add_language", t[language]), "", () => {
        record[language] = Object.fromEntries(Object.entries(fieldsOf(record.category)).filter(([, plain]) => plain).map(([name]) => [name, ""]));
        drawGroup();
        touched();
        pane.querySelector(`[data-field="${language}.instruction"], [data-field="${language}.text"]`).focus();
      }, { id: `add-${language}` }));
    const parallel = make("div", { className: "parallel" }, ...columns);
    parallel.style.setProperty("--columns", columns.length);
    pane.replaceChildren(
      button(t.back, "Esc", leave, { className: "back" }),
      make("header", {}, make("h2", { tabIndex: -1 }, open.id || t.new_group),
        make("span", { className: "fine" }, [open.location, open.split && say("split", open.split)].filter(Boolean).join(" · ")),
        make("span", { className: "acts" },
          button(t.save, "Ctrl S", save, { id: "save", className: "main" }),
          button(t.revert, "", revert, { id: "revert" }),
          open.digest ? button(t.drop, "d", drop) : null)),
      about, make("ul", { className: "findings", id: "whole", "aria-live": "polite" }), parallel,
      make("p", {}, ...more), drawProvenance());
    for (const area of pane.querySelectorAll("textarea")) grow(area);
    mark();
  }

  function drawSignatures() {
    const typed = boot.languages.filter((language) => plainly(open.record[language]) !== plainly(open.saved[language]));
    const readings = (open.saved.read || []).map((one, place) => ({ ...one, stale: open.stale[place] || typed.includes(one.language) }));
    for (const box of pane.querySelectorAll("[data-signatures]")) {
      box.replaceChildren(...readings.filter((one) => one.language === box.dataset.signatures).map((one) => make("li", {
        className: one.stale ? "stale" : one.verdict,
      }, one.stale ? say("stale", one.reader) : say("read_by", one.reader, t[one.kind], one.date,
        one.verdict === "fine" ? t.fine : `${faultName(one.fault)}${one.words ? ` — ${one.words}` : ""}`))));
    }
  }

  // after the page itself changed the line: the texts stay under the cursor, with what was typed since
  async function settle(here) {
    const found = await ask("group", { id: here.id });
    if (!found) return;
    Object.assign(here, found, { record: here.record, saved: found.record, findings: found.findings });
    if (found.record.read) here.record.read = copy(found.record.read);
    if (open === here) touched();
  }

  function drawLanguage(language) {
    const record = open.record;
    const known = Object.keys(fieldsOf(record.category));
    const names = [...known, ...Object.keys(record[language]).filter((name) => !known.includes(name))];
    return make("section", { className: `language ${language}`, lang: langOf(language) },
      make("h3", { lang: boot.language }, t[language], button(t.sign, "s", () => sign(language), { className: "sign", disabled: !open.digest }),
        language === "zh" ? button("✕", "", () => { delete record.zh; drawGroup(); touched(); }, { title: t.remove_language, className: "quiet" }) : null),
      make("ul", { className: "signatures", "data-signatures": language, lang: boot.language }),
      make("ul", { className: "findings", "data-findings": language, lang: "en" }),
      ...names.map((name) => drawField(language, name)));
  }

  function drawField(language, name) {
    const place = `${language}.${name}`, value = open.record[language][name];
    const plain = fieldsOf(open.record.category)[name] ?? typeof value === "string";
    const area = make("textarea", { value: value === undefined || plain ? value ?? "" : JSON.stringify(value, null, 1), rows: 1,
      spellcheck: language === "en", "data-field": place, oninput: (event) => {
        grow(event.target);
        if (!plain && !event.target.value.trim()) delete open.record[language][name];
        else open.record[language][name] = plain ? event.target.value : parsed(event.target, open.record[language][name]);
        touched();
      } });
    return make("div", { className: "field" },
      make("label", { lang: boot.language }, make("span", {}, t[name] || name), area),
      make("p", { className: "fine counts", "data-counts": place, lang: boot.language }),
      name === "reasoning" && open.digest ? button(t.keep_earlier, "", () => {
        open.record.original = { ...open.record.original, [language]: { ...(open.record.original || {})[language], reasoning: open.saved[language].reasoning } };
        drawGroup();
        touched();
      }, { className: "quiet earlier", "data-earlier": language, lang: boot.language, hidden: true }) : null,
      make("ul", { className: "findings", "data-findings": place, lang: "en" }));
  }

  function drawProvenance() {
    const own = ["id", "category", "topic", "chain", "read", ...boot.languages];
    const names = Object.keys(open.record).filter((name) => !own.includes(name));
    return make("details", { className: "more", open: open.digest === null }, make("summary", {}, t.provenance), ...names.map((name) => {
      const value = open.record[name], plain = typeof value === "string";
      const area = make("textarea", { value: plain ? value : JSON.stringify(value, null, 1), rows: 1, "data-field": name, oninput: (event) => {
        grow(event.target);
        open.record[name] = plain ? event.target.value : parsed(event.target, value);
        touched();
      } });
      return make("div", { className: "field" }, make("label", {}, make("span", {}, name), area), make("ul", { className: "findings", "data-findings": name }));
    }));
  }

  function parsed(area, before) {
    try {
      area.setCustomValidity("");
      return JSON.parse(area.value);
    } catch {
      area.setCustomValidity(t.not_json);
      return before;
    }
  }

  const grows = CSS.supports("field-sizing", "content"); // by itself, also when a window gets narrower
  function grow(area) {
    if (grows) return;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  }

  function touched() {
    mark();
    check();
  }

  function mark() {
    const dirty = isDirty();
    document.body.classList.toggle("dirty", dirty);
    drawSignatures();
    for (const id of ["save", "revert"]) if ($(id)) $(id).disabled = !dirty && open.digest !== null;
    for (const offer of pane.querySelectorAll("[data-earlier]")) {
      const language = offer.dataset.earlier, was = (open.saved[language] || {}).reasoning;
      offer.hidden = !was || open.record[language].reasoning === was || ((open.record.original || {})[language] || {}).reasoning === was;
    }
    draw();
  }

  function leave() {
    document.body.classList.remove("reading");
    list.focus();
  }

  function revert() {
    edits.delete(open.id);
    if (open.digest === null) { open = null; pane.replaceChildren(make("p", { className: "fine" }, t.choose)); document.body.classList.remove("dirty"); leave(); return; }
    open.record = copy(open.saved);
    drawGroup();
    check();
  }

  // 4. Checks while somebody types: its own at once, against the others a little later.

  let turn = 0, checking = 0, relating = 0;
  function check() {
    clearTimeout(checking);
    clearTimeout(relating);
    const mine = ++turn, here = open;
    checking = setTimeout(async () => {
      const found = await ask("check", { record: here.record });
      if (mine !== turn || open !== here) return;
      Object.assign(here, { own: found.findings, broken: found.faults, counts: found.counts });
      drawFindings();
      relating = setTimeout(async () => {
        const related = await ask("relations", { record: here.record });
        if (mine !== turn || open !== here) return;
        here.related = related || [];
        here.waiting = related === null && !here.broken.length;
        drawFindings();
      }, 150);
    }, 100);
  }

  function drawFindings() {
    const all = [...open.own, ...open.related].filter((one) => one.check !== "readings"); // the signatures themselves say it
    const places = new Map();
    for (const box of pane.querySelectorAll("[data-findings]")) places.set(box.dataset.findings, box);
    const by = new Map([...places.keys()].map((place) => [place, []]));
    const whole = open.broken.map((text) => make("li", { className: "error" }, text));
    for (const finding of all) {
      const item = make("li", { className: finding.severity, title: finding.hint },
        make("b", {}, finding.check.replace("_", " ")), " ", ...linked(finding.message), " ", make("span", { className: "hint" }, finding.hint));
      const mine = finding.group === open.record.id || finding.group === open.id;
      if (mine && by.has(finding.field)) by.get(finding.field).push(item);
      else {
        const label = [mine ? "" : finding.group, finding.field].filter(Boolean).join(" ");
        if (label) item.prepend(...linked(label), ": ");
        whole.push(item);
      }
    }
    for (const [place, items] of by) places.get(place).replaceChildren(...items);
    if (open.waiting) whole.push(make("li", { className: "fine" }, t.relations_wait));
    $("whole").replaceChildren(...whole);
    for (const box of pane.querySelectorAll("[data-counts]")) {
      const counts = Object.entries(open.counts[box.dataset.counts] || {});
      box.textContent = counts.filter(([name, number]) => number > (name === "lines" ? 1 : 0)).map(([name, number]) => say(name, number)).join(" · ");
    }
  }

  // ids of other groups in a message lead there
  function linked(message) {
    return message.split(/\b([a-z_]+-\d{4})\b/).map((part, place) => (place % 2 && part !== open.id && rows.some((row) => row.id === part)
      ? make("button", { type: "button", className: "link", onclick: () => { clearFilters(); select(part, true); } }, part) : part));
  }

  // 5. What changes the files.

  let settling = Promise.resolve(); // the version that mine is to replace is being read

  async function save() {
    await settling;
    if (!open || pane.querySelector(":invalid")) return pane.querySelector(":invalid")?.reportValidity();
    if (!isDirty() && open.digest !== null) return undefined;
    const here = open, was = visit;
    try {
      const { id } = await ask("save", { id: here.id, digest: here.digest, record: here.record });
      tell(say("saved", id));
      edits.delete(here.id);
      if (id === here.id && here.digest !== null) await settle(here);
      else if (visit === was) { // new, or in another category: another place in the list
        here.saved = here.record;
        selected = id;
        await load();
        await show(id, { fresh: true });
      }
      await load();
      if (open && open.id === id) reveal(id);
    } catch (error) {
      if (error.status === 409) conflict(here, error.found);
      else failed(error);
    }
    return undefined;
  }

  function conflict(here, found) {
    const theirs = found.record || {};
    const names = [...new Set([...Object.keys(here.record), ...Object.keys(theirs)])];
    const different = names.flatMap((name) => {
      const ours = here.record[name], other = theirs[name];
      if (boot.languages.includes(name)) {
        return [...new Set([...Object.keys(ours || {}), ...Object.keys(other || {})])].map((field) => [`${name}.${field}`, (ours || {})[field], (other || {})[field]]);
      }
      return [[name, ours, other]];
    }).filter(([, ours, other]) => JSON.stringify(ours) !== JSON.stringify(other));
    const text = (value) => (value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value, null, 1));
    openDialog(t.conflict, "conflict",
      make("p", {}, found.record ? t.conflict_text : t.conflict_gone),
      make("table", {}, make("thead", {}, make("tr", {}, make("th", {}), make("th", { scope: "col" }, t.mine), make("th", { scope: "col" }, t.theirs))),
        make("tbody", {}, ...different.map(([name, ours, other]) => make("tr", {}, make("th", { scope: "row" }, name),
          make("td", { lang: langOf(name.split(".")[0]) }, text(ours)), make("td", { lang: langOf(name.split(".")[0]) }, text(other)))))),
      make("p", { className: "acts" },
        found.record ? button(t.take_theirs, "t", () => { dialog.close(); edits.delete(here.id); show(here.id, { fresh: true }).catch(failed); }, { "data-key": "t" }) : null,
        found.record ? button(t.keep_mine, "m", () => {
          dialog.close();
          settling = settle(here).catch(failed);
        }, { "data-key": "m" }) : null,
        button(t.close, "Esc", () => dialog.close())));
  }

  async function drop() {
    if (!open || !open.digest) return;
    const { id, digest } = open;
    const sure = await confirmed(say("drop_sure", id), t.drop);
    if (!sure) return;
    try {
      const place = shown.findIndex((row) => row.id === id);
      await ask("drop", { id, digest });
      tell(say("dropped", id));
      open = null;
      await load();
      const next = shown[Math.min(place, shown.length - 1)];
      document.body.classList.remove("reading");
      if (next) select(next.id);
      list.focus();
    } catch (error) {
      if (error.status === 409) conflict(open, error.found);
      else failed(error);
    }
  }

  async function undo() {
    const was = visit;
    const found = await ask("undo");
    tell(found ? say("undone", found.note) : t.nothing_to_undo);
    if (!found) return;
    await load();
    const back = found.groups.find((id) => rows.some((row) => row.id === id));
    if (open && found.groups.includes(open.id) && !rows.some((row) => row.id === open.id)) open = null;
    if (back && visit === was) {
      reveal(back);
      await show(back, { fresh: !isDirty() });
    }
  }

  async function addGroup(category = $("category").value || (open ? open.record.category : boot.categories[0])) {
    const mine = ++visit;
    clearTimeout(opening);
    const begun = [...edits.values()].find((one) => one.digest === null && one.record.category === category);
    const record = begun ? begun.record : await ask("new", { category });
    if (mine !== visit) return;
    if (open && open.digest !== null) keep();
    edits.delete(record.id);
    open = begun || { id: record.id, saved: {}, record, digest: null, own: [], related: [], broken: [], counts: {}, stale: [], location: "", split: "" };
    document.body.classList.add("reading");
    drawGroup();
    $("edit-topic").focus();
    check();
  }

  // 6. Signatures.

  const faultName = (kind) => t[["reasoning", "language"].includes(kind) ? `${kind}_fault` : kind];

  function faultForm() {
    return make("fieldset", { className: "fault" },
      make("label", {}, t.kind_of_fault, make("select", { name: "fault" }, ...boot.faults.map((kind) => make("option", { value: kind }, faultName(kind))))),
      make("label", {}, t.what_is_wrong, make("textarea", { name: "words", rows: 3 })));
  }

  function sign(language) {
    if (!open || !open.digest) return;
    if (isDirty()) { tell(t.save_first, true); return; }
    if (!reader().reader) { tell(t.reader_first, true); $("reader").focus(); return; }
    const here = open, languages = languagesOf(here.saved);
    const key = here.keys[language]; // of the text that was read here; another one is refused
    const form = faultForm();
    form.hidden = true;
    const give = async (verdict) => {
      try {
        await ask("sign", { id: here.id, language, key, ...reader(), ...verdict });
        dialog.close();
        tell(`${t.signed}: ${here.id} ${t[language]}`);
        await settle(here);
        await load();
      } catch (error) {
        if (error.status === 409) { dialog.close(); conflict(here, error.found); } else failed(error);
      }
    };
    openDialog(say("sign_title", t[language], here.id), "sign",
      make("p", { className: "acts" }, ...languages.map((one) => button(t[one], String(boot.languages.indexOf(one) + 1),
        () => { dialog.close(); sign(one); }, { "aria-pressed": String(one === language), "data-key": String(boot.languages.indexOf(one) + 1) }))),
      form,
      make("p", { className: "acts" },
        button(t.fine, "f", () => give({}), { className: "main", "data-key": "f" }),
        button(t.fault, "x", (event) => {
          if (form.hidden) { form.hidden = false; form.querySelector("select").focus(); event.target.textContent = t.sign; event.target.removeAttribute("data-key"); return; }
          give({ fault: form.querySelector("select").value, words: form.querySelector("textarea").value });
        }, { "data-key": "x", className: "fault-button" }),
        button(t.cancel, "Esc", () => dialog.close())));
  }

  async function showReadings() {
    const found = await ask("readings");
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    const table = (heads, lines) => make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...lines.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, String(cell)))))));
    openDialog(t.readings, "readings",
      table([t.language, t.texts, t.by_people, t.by_models, t.open_faults, t.stale_count],
        Object.entries(found.counts).map(([language, one]) => [t[language], one.texts, one.by_people, one.by_models, one.faults, one.stale])),
      found.agreements.length ? table([t.readers, t.texts, t.same_verdict, t.kappa], found.agreements.map((pair) =>
        [`${pair.first} · ${pair.second}`, pair.texts, percent(pair.share), pair.kappa === null ? t.no_kappa : pair.kappa.toFixed(2)])) : null,
      found.samples.length ? table([t.date, t.readers, t.texts, t.faults_found, t.interval, t.seed], found.samples.map((one) =>
        [one.date, `${one.reader} (${t[one.kind]})`, one.size, `${one.faults} (${percent(one.faults / one.size)})`, `${percent(one.low)} – ${percent(one.high)}`, one.seed])) : null,
      found.agreements.length || found.samples.length || Object.values(found.counts).some((one) => one.by_people + one.by_models) ? null : make("p", {}, t.nobody),
      make("p", { className: "acts" }, button(t.close, "Esc", () => dialog.close())));
  }

  // 7. A blind sample: one text after the other, and nothing beside it.

  const STORE = "bonsai-desk-sample"; // a break in the reading must not cost the verdicts given so far
  const kept = () => { try { return JSON.parse(localStorage.getItem(STORE)); } catch { return null; } };

  function offerSample() {
    if (!reader().reader) { tell(t.reader_first, true); $("reader").focus(); return; }
    const before = kept();
    const size = make("input", { type: "number", min: 1, value: 50, name: "size" });
    const seed = make("input", { type: "number", value: Math.floor(Math.random() * 100000), name: "seed" });
    const languages = boot.languages.map((one) => make("input", { type: "checkbox", value: one, checked: true }));
    openDialog(t.sample_title, "offer", make("p", {}, t.sample_text),
      before ? make("p", {}, button(say("resume", before.verdicts.length, before.texts.length), "", () => readSample(before), { className: "resume" })) : null,
      make("p", { className: "about" }, make("label", {}, t.how_many, size), make("label", {}, t.seed, seed)),
      make("fieldset", {}, make("legend", {}, t.in_languages), ...languages.map((box) => make("label", { className: "check" }, box, t[box.value]))),
      make("p", { className: "acts" }, button(t.begin, "", async () => {
        const texts = await ask("sample", { size: size.valueAsNumber || 1, seed: seed.valueAsNumber || 0,
          languages: languages.filter((box) => box.checked).map((box) => box.value) });
        readSample({ seed: seed.valueAsNumber || 0, texts, verdicts: [] });
      }, { className: "main" }), button(t.cancel, "Esc", () => dialog.close())));
    size.focus();
    size.select();
  }

  function readSample(sample) {
    localStorage.setItem(STORE, JSON.stringify(sample));
    const at = sample.verdicts.length;
    if (at >= sample.texts.length) { handIn(sample).catch(failed); return; }
    const { key, language, text } = sample.texts[at];
    const form = faultForm();
    form.hidden = true;
    const give = (verdict) => { sample.verdicts.push({ key, language, ...verdict }); readSample(sample); };
    openDialog(say("of", at + 1, sample.texts.length), "blind",
      make("article", { lang: langOf(language) }, ...Object.entries(text).filter(([, value]) => value && value.length).map(([name, value]) =>
        make("div", { className: `field ${name}` }, make("span", { lang: boot.language }, t[name] || name),
          make("p", {}, typeof value === "string" ? value : value.map((turn) => `${turn.role}: ${turn.content}`).join("\n"))))),
      form,
      make("p", { className: "acts" },
        button(t.fine, "f", () => give({ verdict: "fine" }), { className: "main", "data-key": "f" }),
        button(t.fault, "x", (event) => {
          if (form.hidden) { form.hidden = false; form.querySelector("select").focus(); event.target.removeAttribute("data-key"); return; }
          give({ verdict: "fault", fault: form.querySelector("select").value, words: form.querySelector("textarea").value });
        }, { "data-key": "x", className: "fault-button" }),
        at ? button(t.previous, "←", () => { sample.verdicts.pop(); readSample(sample); }, { "data-key": "ArrowLeft" }) : null),
      make("p", { className: "fine" }, t.sample_keys));
    dialog.querySelector("article").scrollIntoView();
  }

  async function handIn(sample) {
    const found = await ask("verdicts", { seed: sample.seed, verdicts: sample.verdicts, ...reader() });
    localStorage.removeItem(STORE);
    const percent = (share) => (100 * share).toFixed(1);
    openDialog(t.sample_title, "result",
      make("p", { className: "result" }, say("result", found.faults, found.size, percent(found.faults / found.size), percent(found.low), percent(found.high))),
      make("p", {}, say("result_kept", found.file)),
      found.edited ? make("p", {}, say("edited_meanwhile", found.edited)) : null,
      make("p", { className: "acts" }, button(t.close, "Esc", () => dialog.close())));
    await load();
  }

  // 8. Dialogs and keys.

  function openDialog(title, name, ...children) {
    dialog.className = name;
    dialog.replaceChildren(...[make("h2", { tabIndex: -1 }, title), ...children].filter(Boolean));
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("h2").focus();
  }

  function confirmed(question, yes) {
    return new Promise((answer) => {
      let sure = false;
      openDialog(question, "sure", make("p", { className: "acts" },
        button(yes, "Enter", () => { sure = true; dialog.close(); }, { className: "main", "data-key": "Enter" }),
        button(t.cancel, "Esc", () => dialog.close())));
      dialog.addEventListener("close", () => answer(sure), { once: true });
    });
  }

  function help() {
    const keys = [["j k ↓ ↑", "list"], ["Enter", "enter"], ["e", "edit"], ["s", "sign"], ["Ctrl S", "save"], ["u", "undo"],
      ["/", "search"], ["n", "new"], ["d", "drop"], ["b", "blind"], ["r", "readings"], ["Esc", "leave"]];
    openDialog(t.help, "help", make("dl", {}, ...keys.flatMap(([key, name]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, t[`keys_${name}`])])),
      make("p", { className: "acts" }, button(t.close, "Esc", () => dialog.close())));
  }

  function edit() {
    if (!open) return;
    document.body.classList.add("reading");
    pane.querySelector("textarea[data-field$=\".instruction\"], textarea[data-field$=\".text\"]")?.focus();
  }

  const KEYS = {
    j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1), PageDown: () => move(10), PageUp: () => move(-10),
    Home: () => move(-rows.length), End: () => move(rows.length),
    Enter: () => selected && select(selected, true)?.then(() => pane.querySelector("h2")?.focus()),
    e: async () => { if (selected && !(open && open.digest === null)) await show(selected).catch(failed); edit(); },
    s: () => open && sign(languagesOf(open.record)[0]),
    u: () => undo().catch(failed), n: () => addGroup().catch(failed), d: () => drop(), b: offerSample,
    r: () => showReadings().catch(failed), "/": () => $("words").focus(), "?": help, Escape: leave,
  };
  for (const number of [1, 2, 3]) KEYS[number] = () => open && open.record[boot.languages[number - 1]] && sign(boot.languages[number - 1]);

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && (event.key === "s" || event.key === "Enter")) {
      event.preventDefault();
      if (!dialog.open) save();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return; // Enter may end a conversion to kanji
    const writing = event.target.closest("input, textarea, select");
    if (dialog.open) {
      if (writing && event.key === "Enter" && !event.shiftKey && event.target.name === "words") {
        event.preventDefault();
        dialog.querySelector(".fault-button").click();
      }
      const wanted = writing ? null : dialog.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
      if (wanted) { event.preventDefault(); wanted.click(); }
      return;
    }
    if (writing) {
      if (event.key === "Escape") { event.target.blur(); (narrow.matches && pane.contains(event.target) ? pane.querySelector("h2") : list).focus(); }
      return;
    }
    if (event.key === "Enter" && event.target.closest("button, a, summary")) return;
    const known = KEYS[event.key];
    if (known) { event.preventDefault(); known(); }
  });

  $("new").onclick = () => addGroup().catch(failed);
  $("blind").onclick = offerSample;
  $("show-readings").onclick = () => showReadings().catch(failed);
  $("undo").onclick = () => undo().catch(failed);
  $("show-help").onclick = help;
  $("faulty").onclick = () => openDialog(say("faults", faults.length), "faults", make("ul", {}, ...faults.map((one) => make("li", {}, one))),
    make("p", { className: "acts" }, button(t.close, "Esc", () => dialog.close())));
  $("words").oninput = () => search();
  for (const name of filters.slice(0, -1)) $(name).onchange = choose;
  $("since").onchange = () => compare().catch(failed);
  for (const wish of ["focus", "pointerdown"]) $("since").addEventListener(wish, offerReleases);
  const form = document.querySelector(".filters");
  function clearFilters() {
    form.reset();
    matching = null;
    changed = null;
    choose();
  }
  form.onsubmit = (event) => event.preventDefault();
  form.onreset = () => setTimeout(() => { matching = null; changed = null; choose(); });
  list.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", draw);
  addEventListener("beforeunload", (event) => { if (isDirty() || edits.size) event.preventDefault(); });

  $("reader").value = boot.reader || localStorage.getItem("bonsai-desk-reader") || "";
  $("kind").value = boot.reader ? boot.kind : localStorage.getItem("bonsai-desk-kind") || boot.kind;
  for (const id of ["reader", "kind"]) {
    $(id).onchange = () => {
      localStorage.setItem("bonsai-desk-reader", $("reader").value.trim());
      localStorage.setItem("bonsai-desk-kind", $("kind").value);
      load().catch(failed);
    };
  }

  // whoever changes the files, the page learns of it; an open group without changes of its own follows
  async function follow() {
    if (document.hidden) return;
    const state = await ask("state").catch(() => null);
    if (!state) return;
    progress(state.checking);
    if (state.version === version) return;
    await load();
    if (open && open.digest && !isDirty() && !dialog.open && !pane.contains(document.activeElement.closest("textarea, input, select"))) {
      const found = await ask("group", { id: open.id });
      if (found && found.digest !== open.digest) await show(open.id, { fresh: true });
    }
    if (open && open.waiting && state.ready) check();
  }
  setInterval(() => follow().catch(failed), 1500);

  $("more-filters").open = !narrow.matches;
  load().then(() => { list.focus(); if (selected) select(selected); }).catch(failed);
})();
