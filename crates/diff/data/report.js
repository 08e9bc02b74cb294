"use strict";
(function () {
  var root = document.documentElement;
  root.classList.add("js");
  var $ = function (s) { return document.querySelector(s); };
  var all = function (s) { return Array.prototype.slice.call(document.querySelectorAll(s)); };
  var store = { get: function () { try { return localStorage.getItem("druse-theme"); } catch (e) { return null; } },
    set: function (v) { try { localStorage.setItem("druse-theme", v); } catch (e) { } } };

  // Theme: what the system says until it is switched by hand.
  var saved = store.get();
  if (saved === "light" || saved === "dark") root.setAttribute("data-theme", saved);
  function toggleTheme() {
    var dark = root.getAttribute("data-theme") === "dark" ||
      (!root.hasAttribute("data-theme") && matchMedia("(prefers-color-scheme: dark)").matches);
    root.setAttribute("data-theme", dark ? "light" : "dark");
    store.set(dark ? "light" : "dark");
  }

  var input = $("#filter"), found = $("#found"), help = $("#help");
  var units = all(".unit"), cards = all(".card"), changes = all("button[data-change]");
  var only = $("#only-dangers"), echoes = $("#echoes");
  var showEchoes = true;

  function terms() {
    return input.value.trim().toLowerCase().split(/\s+/).filter(Boolean).map(function (t) {
      var m = /^(kind|unit|is|code|file):(.+)$/.exec(t);
      return m ? [m[1], m[2]] : ["", t];
    });
  }
  function matches(el, unit, list) {
    return list.every(function (t) {
      var d = el.dataset, u = unit ? unit.dataset : d;
      switch (t[0]) {
        case "kind": return (d.kind || "").indexOf(t[1]) === 0;
        case "unit": return (u.text || "").indexOf(t[1]) >= 0;
        case "is": return d.change === t[1] || (d.danger || "").split(" ").indexOf(t[1]) >= 0 || (t[1] === "echo" && "echo" in d);
        case "code": return (d.code || "").indexOf(t[1]) >= 0;
        case "file": return (d.file || "").indexOf(t[1]) >= 0;
        default: return (d.text || "").indexOf(t[1]) >= 0 || (u.text || "").indexOf(t[1]) >= 0;
      }
    });
  }
  function apply() {
    var list = terms(), on = changes.filter(function (b) { return b.getAttribute("aria-pressed") === "true"; })
      .map(function (b) { return b.dataset.change; });
    var risky = only.getAttribute("aria-pressed") === "true";
    var active = list.length > 0 || on.length > 0 || risky || !showEchoes;
    var shownUnits = 0, shownObjects = 0;
    units.forEach(function (unit) {
      var objects = Array.prototype.slice.call(unit.querySelectorAll(".object"));
      var some = 0;
      objects.forEach(function (o) {
        var ok = matches(o, unit, list) && (!on.length || on.indexOf(o.dataset.change) >= 0) &&
          (!risky || o.dataset.danger) && (showEchoes || !("echo" in o.dataset));
        o.hidden = !ok;
        if (ok) some++;
      });
      var self = matches(unit, null, list) && (!on.length || on.indexOf(unit.dataset.change) >= 0) && (!risky || unit.dataset.danger);
      unit.hidden = !(some > 0 || self);
      if (!unit.hidden) { shownUnits++; shownObjects += some; }
    });
    var shownCards = 0;
    cards.forEach(function (c) {
      var items = Array.prototype.slice.call(c.querySelectorAll(".item")), some = 0;
      items.forEach(function (i) { i.hidden = !matches(i, null, list); if (!i.hidden) some++; });
      if (!items.length && matches(c, null, list)) some = 1;
      c.hidden = some === 0;
      shownCards += some;
    });
    found.textContent = active ? shownUnits + " units, " + shownObjects + " objects, " + shownCards + " dangers match" : "";
  }
  var timer = 0;
  input.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(apply, 80); });
  function press(b) { b.setAttribute("aria-pressed", b.getAttribute("aria-pressed") === "true" ? "false" : "true"); apply(); }
  changes.concat([only]).forEach(function (b) { b.addEventListener("click", function () { press(b); }); });
  echoes.addEventListener("click", function () {
    showEchoes = !showEchoes; echoes.setAttribute("aria-pressed", showEchoes ? "false" : "true"); apply();
  });
  $("#theme").addEventListener("click", toggleTheme);
  $("#help-button").addEventListener("click", function () { help.showModal(); });
  $("#help-close").addEventListener("click", function () { help.close(); });

  var every = ".card, .unit, .object";

  // Deep links: whatever holds the target is opened.
  function reveal(el) {
    for (var p = el; p; p = p.parentElement) if (p.tagName === "DETAILS") p.open = true;
  }
  function target() {
    var el = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!el) return;
    reveal(el); el.hidden = false; el.scrollIntoView({ behavior: "instant" });
    if (el.matches(every)) mark(el);
  }
  addEventListener("hashchange", target);

  // Keys: j and k go from one danger, unit or object in sight to the next.
  var here = null;
  function stops(selector) {
    return all(selector).filter(function (e) { return e.offsetParent !== null && !e.hidden; });
  }
  function mark(el) {
    if (here) here.classList.remove("here");
    here = el; el.classList.add("here");
    var s = el.querySelector("summary"); if (s) s.focus({ preventScroll: true });
  }
  function onRow() {
    return here && here.firstElementChild === document.activeElement;
  }
  function go(step, selector) {
    var list = stops(selector);
    if (!list.length) return;
    var at = list.indexOf(here);
    if (at < 0) {
      at = step > 0 ? -1 : list.length;
      if (here) list.some(function (e, i) {
        if (here.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING) { at = step > 0 ? i - 1 : i; return true; }
        return false;
      });
    }
    var next = list[Math.max(0, Math.min(list.length - 1, at + step))];
    mark(next);
    var box = next.querySelector("summary").getBoundingClientRect();
    if (box.top < 80 || box.bottom > innerHeight - 40) next.querySelector("summary").scrollIntoView({ block: "center" });
  }
  addEventListener("keydown", function (e) {
    if (e.ctrlKey || e.metaKey || e.altKey || help.open) return;
    if (e.target === input) {
      if (e.key === "Escape") { if (input.value) { input.value = ""; apply(); } else input.blur(); e.preventDefault(); }
      if (e.key === "Enter") { input.blur(); go(1, ".unit"); }
      return;
    }
    switch (e.key) {
      case "j": go(1, every); break;
      case "k": go(-1, every); break;
      case "J": go(1, ".unit"); break;
      case "K": go(-1, ".unit"); break;
      case "n": go(1, ".card"); break;
      case "p": go(-1, ".card"); break;
      // Arrows do so while a row has the focus; otherwise they scroll.
      case "ArrowDown": case "ArrowUp":
        if (!onRow()) return;
        go(e.key === "ArrowDown" ? 1 : -1, every); break;
      case "ArrowRight": if (!onRow()) return; here.open = true; break;
      case "ArrowLeft":
        if (!onRow()) return;
        if (here.open) here.open = false; else if (here.parentElement.closest(every)) mark(here.parentElement.closest(every));
        break;
      case "o": if (here) here.open = !here.open; break;
      case "Enter": if (here && e.target === document.body) here.open = !here.open; return;
      case "e": stops(".unit").forEach(function (u) { u.open = true; }); break;
      case "c": stops(".unit").forEach(function (u) { u.open = false; }); break;
      case "t": toggleTheme(); break;
      case "g": scrollTo(0, 0); if (here) here.classList.remove("here"); here = null; break;
      case "/": input.focus(); input.select(); break;
      case "?": help.showModal(); break;
      default: return;
    }
    e.preventDefault();
  });
  all(".card, .unit, .object").forEach(function (el) {
    el.firstElementChild.addEventListener("click", function () { if (here !== el) mark(el); });
  });
  // On paper everything that is in sight is open.
  addEventListener("beforeprint", function () { stops(".unit, .card, .more").forEach(function (d) { d.open = true; }); });
  target();
})();
