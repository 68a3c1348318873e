# SPDX-License-Identifier: MIT
# bash completion for penstock(1)
_penstock() {
	local cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]:-} words=''

	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W 'run ls synth bench' -- "$cur")
		return
	fi
	case $command in
	run)
		words='--cache --tokens --batch --seed --prompt-ids --device --route --policy --verify --compare
			--trace --routing --json'
		;;
	ls) words='--tensors --json' ;;
	synth) words='--arch --layers --experts --top-k --hidden --inter --dtype --format --skew' ;;
	bench) [ "$COMP_CWORD" -eq 2 ] && words='io load gemv' || words='--json' ;;
	esac
	if [[ $cur == -* || $command == bench && $COMP_CWORD -eq 2 ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}
complete -o filenames -F _penstock penstock
