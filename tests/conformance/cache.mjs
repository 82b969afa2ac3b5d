// The tests of the npm package http-cache-tests against a server of theirs, or what stands before it, as JSON.
//
//   node cache.mjs PACKAGE URL
import { pathToFileURL } from 'node:url'
import { createRequire } from 'node:module'

const [root, base] = process.argv.slice(2)
const local = path => import(pathToFileURL(`${root}/${path}`))
const fetch = createRequire(`${root}/`)('node-fetch')
const { runTests, getResults } = await local('client/runner.mjs')
const tests = (await local('tests/index.mjs')).default

// Half the tests end in a pause of three seconds: run side by side, they share it.
await runTests(tests, fetch, false, base)
const groups = Object.fromEntries(tests.map(group => [group.name, group.tests.map(test => test.id)]))
console.log(JSON.stringify({ groups, results: getResults() }))
