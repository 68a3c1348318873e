# SPDX-License-Identifier: MIT
# bash completion for penstock(1). Commands and options are those that the tool's
# own help names, so there is no list to keep.
_penstock() {
	local cur=${COMP_WORDS[COMP_CWORD]} tool=${COMP_WORDS[0]} command=() words='' i

	for ((i = 1; i < COMP_CWORD && i < 3; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] && break
		command+=("${COMP_WORDS[i]}")
	done
	# only bench has a second word that is a command
	[[ ${command[0]:-} == bench ]] || command=("${command[@]:0:1}")
	if [[ $cur == -* ]]; then
		words=$("$tool" "${command[@]}" --help 2>/dev/null | grep -oE '(^|[ ,[])--?[a-z][a-z0-9-]*' | tr -d ' ,[')
	elif [[ $COMP_CWORD -eq 1 || ${command[*]} == bench ]]; then
		words=$("$tool" "${command[@]}" --help 2>/dev/null | sed -n 's/^  \([a-z]\{1,\}\)  .*/\1/p')
	fi
	if [[ -n $words ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}
complete -o filenames -F _penstock penstock
