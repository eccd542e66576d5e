// ohif.cjs BASE STUDY DIR: opens a study in the OHIF viewer at BASE as a radiologist does, opens each report and each
// segmentation by a double click on its entry in the series panel, takes pictures into DIR and says what is there. Exit code
// 1 where the viewer shows an error, or nothing, or counts other voxels than the report. Started by ohif beside it.
const fs = require('fs');
const puppeteer = require('puppeteer-core');

const [base, study, dir] = process.argv.slice(2);
const faults = [];
let compared = 0, apart = 0; // numbers of OHIF that were held against the report's, and those that one of the two lacks
const fault = text => { faults.push(text); console.log(`  FAULT ${text}`); };
const sleep = ms => new Promise(done => setTimeout(done, ms));
const meaning = item => item['0040A043']?.Value?.[0]?.['00080104']?.Value?.[0];
const code = item => item['0040A043']?.Value?.[0]?.['00080100']?.Value?.[0];
const children = item => item['0040A730']?.Value ?? [];

// Console errors and failed requests, each once; `during` names what was being done.
let during = '';
const heard = new Set();
function hear(text) {
  text = `${during}: ${text.replaceAll(/[0-9a-f]{8}-[-0-9a-f]{27}|[0-9.]{20,}/g, '…').slice(0, 300)}`;
  if (heard.size < 50) heard.add(text.replace(/frames\/\d+/, 'frames/…'));
}

// until waits for a condition in the page, and says whether it came.
const until = (page, seconds, condition, ...args) =>
  page.waitForFunction(condition, { timeout: seconds * 1e3 }, ...args).then(() => true, () => false);

// load opens the study and waits until the panel lists its series and the first image is drawn.
async function load(browser, prepare = () => {}) {
  const page = await browser.newPage();
  await prepare(page);
  await page.setViewport({ width: 1600, height: 1000 });
  page.on('console', async m => {
    if (m.type() !== 'error') return;
    const parts = await Promise.all(m.args().map(a => a.evaluate(v => v?.stack ?? String(v)).catch(() => '')));
    hear(`console: ${(parts.join(' ') || m.text()).split('\n').slice(0, 2).join(' ')}`);
  });
  page.on('pageerror', e => hear(`exception: ${e.message}`));
  page.on('response', r => {
    if (r.status() >= 400) hear(`HTTP ${r.status()} ${new URL(r.url()).pathname.split('/').slice(-3).join('/')}`);
  });
  await page.goto(`${base}/viewer?StudyInstanceUIDs=${study}`, { waitUntil: 'domcontentloaded' });
  await page.waitForSelector('[data-cy^="study-browser-thumbnail"]', { timeout: 120e3 });
  await until(page, 60, () => window.services?.displaySetService?.activeDisplaySets.length &&
    /\(\d+\/\d+\)|^\d+\/\d+$/m.test(document.querySelector('[data-cy="viewport-grid"]')?.innerText ?? '')); // "(12/24)", the slice
  await sleep(2000);
  return page;
}

const series = page => page.evaluate(() => window.services.displaySetService.activeDisplaySets.map(s => ({
  id: s.displaySetInstanceUID, uid: s.SeriesInstanceUID, instance: s.SOPInstanceUID, modality: s.Modality, image: Boolean(s.images?.length),
  number: s.SeriesNumber, description: s.SeriesDescription,
  shown: document.getElementById(`thumbnail-${s.displaySetInstanceUID}`)?.innerText.replaceAll('\n', ' | '),
})));

// doubleClick opens a series by its entry in the panel, which moves while thumbnails come: it looks whether a viewport took
// the series, and clicks again where none did.
async function doubleClick(page, uid) {
  const { id } = (await series(page)).find(s => s.uid === uid);
  for (let tries = 0; tries < 3; tries++) {
    const entry = await page.$(`[id="thumbnail-${id}"]`);
    if (!entry) return; // the page is gone: looks says so
    await entry.evaluate(e => e.scrollIntoView({ block: 'center' }));
    const box = await entry.boundingBox();
    await page.mouse.click(box.x + 30, box.y + box.height / 2, { count: 2, delay: 30 });
    if (await until(page, 15, id => !document.querySelector('[data-cy="viewport-grid"]') ||
      [...window.services.viewportGridService.getState().viewports.values()].some(v => v.displaySetInstanceUIDs?.includes(id)), id)) return;
  }
  hear('no viewport took the series after three double clicks');
}

// looks gives the text of the viewports, and faults where OHIF shows an error or has lost its page.
async function looks(page) {
  const [all, text] = await page.evaluate(() =>
    [document.body.innerText, document.querySelector('[data-cy="viewport-grid"]')?.innerText]);
  if (text === undefined) fault(`${during}: the page is empty`);
  else if (/Something went wrong/i.test(all)) fault(`${during}: "Something went wrong"`);
  return text ?? '';
}

// report opens a Structured Report and looks for each region and each measurement of it in the text, and for its first summary
// on the first screen.
async function report(browser, s, name) {
  const [object] = await (await fetch(`${base}/dicom-web/studies/${study}/series/${s.uid}/metadata`)).json();
  const measurements = children(object).filter(i => code(i) === '126010').flatMap(children);
  const groups = measurements.filter(i => code(i) === '125007').map(g => ({
    segmentation: children(g).find(i => code(i) === '121191')?.['00081199'].Value[0]['00081155'].Value[0], // Referenced Segment
    region: children(g).find(i => code(i) === '112039')['0040A160'].Value[0],
    values: Object.fromEntries(children(g).filter(i => i['0040A040'].Value[0] === 'NUM').map(i => {
      const v = i['0040A300'].Value[0];
      return [code(i), v['0040A161']?.Value[0] ?? Number(v['0040A30A'].Value[0])];
    })),
    names: children(g).filter(i => i['0040A040'].Value[0] === 'NUM').map(meaning),
  }));
  const page = await load(browser);
  await doubleClick(page, s.uid);
  await sleep(4000);
  const text = await looks(page);
  await page.screenshot({ path: `${dir}/${name}.png` });
  fs.writeFileSync(`${dir}/${name}.txt`, text);
  const summary = children(object).find(i => code(i) === '121111')?.['0040A160'].Value[0];
  const onScreen = await page.evaluate(summary => {
    const walk = document.createTreeWalker(document.querySelector('[data-cy="viewport-grid"]') ?? document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      if (walk.currentNode.data.includes(summary)) return walk.currentNode.parentElement.getBoundingClientRect().bottom < innerHeight;
    }
    return false;
  }, summary);
  if (!onScreen) fault(`${during}: the summary is not on the first screen`);
  const wanted = groups.flatMap(g => [g.region, ...g.names]);
  const lacking = wanted.filter(w => !text.includes(w));
  const there = wanted.length - lacking.length;
  console.log(`  ${name}.png  ${meaning(object)}: ${there} of ${wanted.length} names are in its ${text.length} characters of text`);
  console.log(text.split('\n').filter(Boolean).slice(0, 12).map(l => `    | ${l.slice(0, 140)}`).join('\n'));
  if (!text) fault(`${during}: nothing is shown`);
  else if (lacking.length) fault(`${during}: not shown: ${[...new Set(lacking)].slice(0, 5).join(', ')}`);
  await page.close();
  return groups;
}

// segmentation opens a Segmentation on its images, goes to the middle of each segment, and gives OHIF's statistics.
async function segmentation(browser, s, name) {
  const page = await load(browser);
  await doubleClick(page, s.uid);
  const yes = await page.waitForSelector('[data-cy="yes-hydrate-btn"]', { timeout: 60e3 }).catch(() => null);
  if (!yes) { fault(`${during}: OHIF does not offer to open it`); await looks(page); }
  await yes?.click();
  await until(page, 30, () => window.services.segmentationService.getSegmentations().length);
  await page.click('[data-cy="panelSegmentation-btn"]').catch(() => {});
  const counted = await until(page, 60, () => window.services.segmentationService.getSegmentations().every(x =>
    Object.values(x.segments).every(g => g.cachedStats?.namedStats?.count)));
  if (!counted) hear('OHIF computed no statistics within a minute');
  const found = await page.evaluate(() =>
    window.services.segmentationService.getSegmentations().flatMap(x => Object.values(x.segments).map(g => ({
      id: x.segmentationId, index: g.segmentIndex, label: g.label, centre: g.cachedStats?.center?.image,
      ...Object.fromEntries(Object.values(g.cachedStats?.namedStats ?? {}).map(v => [v.name, v.value])),
    }))));
  if (!found.length) fault(`${during}: no segment`);
  for (const g of found) {
    await page.evaluate(g => window.services.segmentationService.jumpToSegmentCenter(g.id, g.index), g);
    await sleep(2500);
    await looks(page);
    await page.screenshot({ path: `${dir}/${name}-${g.index}.png` });
    console.log(`  ${name}-${g.index}.png  ${g.label}: ${g.count} voxels, mean ${g.mean}, middle at voxel ${g.centre}`);
  }
  if (found.length) {
    await page.evaluate(id => { // all segments off: what is left is the image
      const { segmentationService: s, viewportGridService: v } = window.services;
      s.toggleSegmentationRepresentationVisibility(v.getActiveViewportId(), { segmentationId: id, type: 'Labelmap' });
    }, found[0].id);
    await sleep(1500);
    await page.screenshot({ path: `${dir}/${name}-off.png` });
  }
  await page.close();
  return found;
}

// lateImages loads the study with the answers in the order that is worst for OHIF, as a busy archive may give them: what is
// not an image first, then segmentations, then images. Each segmentation must still be one of images: OHIF takes the first
// series that it knows of all those in Referenced Series Sequence (0008,1115), and opens nothing where that is a structure set.
async function lateImages(browser, all) {
  const delay = Object.fromEntries(all.map(s => [s.uid, s.modality === 'SEG' ? 2500 : s.image ? 5000 : 0]));
  const page = await load(browser, async page => {
    await page.setRequestInterception(true);
    page.on('request', async r => {
      await sleep(delay[r.url().match(/\/series\/([0-9.]+)\/metadata/)?.[1]] ?? 0);
      r.continue();
    });
  });
  await until(page, 60, n => window.services.displaySetService.activeDisplaySets.length >= n, all.length);
  const of = await page.evaluate(() => {
    const sets = window.services.displaySetService;
    return sets.activeDisplaySets.filter(s => s.Modality === 'SEG').map(s =>
      [s.SeriesDescription, sets.getDisplaySetByUID(s.referencedDisplaySetInstanceUID)?.Modality]);
  });
  for (const [description, modality] of of) {
    if (all.some(s => s.image && s.modality === modality)) console.log(`  SEG "${description}": of ${modality}`);
    else fault(`${during}: OHIF takes SEG "${description}" for one of ${modality}`);
  }
  await page.close();
}

// compare holds OHIF's statistics of the voxels under a segment against the values of the region with its name in the reports
// of that segmentation. Where segments overlap, OHIF 3.12.10 takes the slices of both for those of one volume and its millimetres
// are too few: then its voxels are counted by the size that the segmentation says.
function compare(segment, instance, groups, voxel) {
  const values = Object.assign({}, ...groups.filter(g => g.region === segment.label && g.segmentation === instance).map(g => g.values));
  const differ = (ours, theirs) => Math.abs(ours - theirs) / Math.max(Math.abs(ours), 1) > 1e-4;
  let volume = segment.volume;
  if (differ(values.YEKZ, volume) && !differ(values.YEKZ, segment.count * voxel)) {
    console.log(`  ${segment.label}: OHIF says ${volume} mm3 of its ${segment.count} voxels of ${voxel} mm3`);
    volume = segment.count * voxel;
  }
  for (const [what, ours, theirs] of [
    ['volume', values.YEKZ, volume], ['mean', values.Q4LE, segment.mean],
    ['minimum', values['1GSF'], segment.min], ['maximum', values['84IY'], segment.max],
  ]) {
    if (Number.isNaN(ours - theirs)) {
      apart++;
      console.log(`  ${segment.label}: ${what} ${ours} in the report, ${theirs} in OHIF: not compared`);
      continue;
    }
    compared++;
    if (differ(ours, theirs)) fault(`${segment.label}: ${what} is ${ours} in the report, ${theirs} under the segmentation in OHIF`);
    else console.log(`  ${segment.label}: ${what} ${ours} in the report, ${theirs} in OHIF`);
  }
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: '/usr/bin/chromium', protocolTimeout: 180e3,
    args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'],
  });
  try {
    during = 'opening the study';
    const page = await load(browser);
    await looks(page);
    await page.screenshot({ path: `${dir}/study.png` });
    const all = await series(page);
    await page.close();
    console.log(`study.png  the series panel lists:`);
    for (const s of all) console.log(`  ${s.modality} ${s.number ?? ''} "${s.description ?? ''}"  shown as: ${s.shown}`);
    const groups = [];
    const of = modality => all.filter(s => s.modality === modality);
    if (!of('SR').length) fault('no report in the panel');
    for (const [i, s] of of('SR').entries()) {
      console.log(during = `SR ${i + 1} "${s.description}"`);
      groups.push(...await report(browser, s, `sr-${i + 1}`));
    }
    for (const [i, s] of of('SEG').entries()) {
      console.log(during = `SEG ${i + 1} "${s.description}"`);
      const [object] = await (await fetch(`${base}/dicom-web/studies/${study}/series/${s.uid}/metadata`)).json();
      const measures = object['52009229'].Value[0]['00289110'].Value[0]; // Pixel Measures Sequence, for all frames
      const voxel = measures['00280030'].Value[0] * measures['00280030'].Value[1] * measures['00180088'].Value[0];
      for (const g of await segmentation(browser, s, `seg-${i + 1}`)) compare(g, s.instance, groups, voxel);
    }
    if (of('SEG').length) {
      console.log(during = 'images last');
      await lateImages(browser, all);
    }
    for (const [i, s] of all.filter(s => ['DOC', 'OT'].includes(s.modality)).entries()) {
      console.log(during = `${s.modality} "${s.description}"`);
      const page = await load(browser);
      await doubleClick(page, s.uid);
      await sleep(5000);
      await looks(page);
      await page.screenshot({ path: `${dir}/document-${i + 1}.png` });
      const what = await page.evaluate(async () => {
        const pdf = document.querySelector('[data-cy="viewport-grid"] object[type="application/pdf"]')?.data;
        if (pdf) {
          const text = new TextDecoder('latin1').decode(await (await fetch(pdf)).arrayBuffer());
          return text.startsWith('%PDF-') ? `a PDF of ${text.length} bytes` : '';
        }
        return [...window.services.viewportGridService.getState().viewports.keys()].map(v =>
          window.services.cornerstoneViewportService.getCornerstoneViewport(v)?.getImageData?.()?.dimensions)
          .filter(Boolean).map(d => `an image of ${d[0]} x ${d[1]}`)[0];
      });
      if (!what || (s.modality === 'DOC') !== what.startsWith('a PDF')) fault(`${during}: not shown, but ${what || 'nothing'}`);
      else console.log(`  document-${i + 1}.png  ${what}`);
      await page.close();
    }
  } finally {
    await browser.close();
  }
  if (heard.size) console.log(`Errors in the browser:\n${[...heard].map(h => `  ${h}`).join('\n')}`);
  console.log(`${faults.length || 'No'} faults; ${compared} numbers compared with OHIF's, ${apart} not.`);
  process.exit(faults.length ? 1 : 0);
})().catch(e => { console.error(e); process.exit(1); });
